#!/bin/bash
# A run of molecular dynamics, or of any other protocol: sbatch slurm/md.sh FILE.yaml
#SBATCH --time=24:00:00 --signal=B:TERM@300 --requeue
#SBATCH --output=%x-%j.log --open-mode=append
#SBATCH --job-name=md --ntasks=1 --cpus-per-task=1
. ./job.sh || exit 1
name=$(basename "$1" .yaml)
on_scratch "runs/$name" asecalc-md run "$1" --resume-or-start --threads "$SLURM_CPUS_PER_TASK"
requeue_or_end
