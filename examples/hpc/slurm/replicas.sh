#!/bin/bash
# The same run from ten seeds, as an array of jobs: sbatch slurm/replicas.sh FILE.yaml
#SBATCH --time=24:00:00 --signal=B:TERM@300 --requeue
#SBATCH --output=%x-%j.log --open-mode=append
#SBATCH --job-name=replicas --ntasks=1 --cpus-per-task=1 --array=0-9
. ./job.sh || exit 1
name=$(basename "$1" .yaml) seed=$SLURM_ARRAY_TASK_ID
on_scratch "runs/$name-$seed" asecalc-md run "$1" --resume-or-start --seed "$seed" --threads "$SLURM_CPUS_PER_TASK"
requeue_or_end
