#!/bin/bash
# A training by a process for each GPU or group of cores, on several nodes: sbatch slurm/training_nodes.sh FILE.yaml
#SBATCH --time=24:00:00 --signal=B:TERM@300 --requeue
#SBATCH --output=%x-%j.log --open-mode=append
#SBATCH --job-name=training --nodes=2 --ntasks-per-node=2 --cpus-per-task=4
. ./job.sh || exit 1
in_place srun --cpus-per-task="$SLURM_CPUS_PER_TASK" asecalc-ml train "$1" --resume-or-start \
    --num_nodes "$SLURM_JOB_NUM_NODES" --devices "$SLURM_NTASKS_PER_NODE" --threads "$SLURM_CPUS_PER_TASK"
requeue_or_end
