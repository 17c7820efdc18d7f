#!/bin/bash
# A training: sbatch slurm/training.sh FILE.yaml
#SBATCH --time=24:00:00 --signal=B:TERM@300 --requeue
#SBATCH --output=%x-%j.log --open-mode=append
#SBATCH --job-name=training --ntasks=1 --cpus-per-task=8
. ./job.sh || exit 1
name=$(basename "$1" .yaml)
on_scratch "training/$name" asecalc-ml train "$1" --resume-or-start --threads "$SLURM_CPUS_PER_TASK"
requeue_or_end
