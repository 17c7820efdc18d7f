#!/bin/bash
# A run of molecular dynamics, or of any other protocol: qsub -v FILE=FILE.yaml pbs/md.sh
# Not run on a PBS so far: tests run it with a stand-in for qsub.
#PBS -l walltime=24:00:00 -j oe -r y
#PBS -N md -l select=1:ncpus=1
cd "$PBS_O_WORKDIR" && . ./job.sh || exit 1
signal_after 86100 # walltime less 300 s
name=$(basename "$FILE" .yaml)
on_scratch "runs/$name" asecalc-md run "$FILE" --resume-or-start --threads 1
resubmit_or_end pbs/md.sh "$FILE"
