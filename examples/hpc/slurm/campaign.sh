#!/bin/bash
# A campaign on the cores of one node: sbatch slurm/campaign.sh FILE.yaml
#SBATCH --time=24:00:00 --signal=B:TERM@300 --requeue
#SBATCH --output=%x-%j.log --open-mode=append
#SBATCH --job-name=campaign --nodes=1 --ntasks=1 --cpus-per-task=32
. ./job.sh || exit 1
name=$(basename "$1" .yaml)
on_scratch "runs/$name" asecalc-md campaign "$1" --workers "$SLURM_CPUS_PER_TASK"
requeue_or_end
