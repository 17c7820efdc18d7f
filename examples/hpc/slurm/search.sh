#!/bin/bash
# A search for hyperparameters: sbatch slurm/search.sh FILE.yaml
#SBATCH --time=24:00:00 --signal=B:TERM@300 --requeue
#SBATCH --output=%x-%j.log --open-mode=append
#SBATCH --job-name=search --nodes=1 --ntasks=1 --cpus-per-task=8
. ./job.sh || exit 1
in_place asecalc-ml tune "$1" --resume-or-start --search.workers "$SLURM_CPUS_PER_TASK"
requeue_or_end
