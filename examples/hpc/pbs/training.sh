#!/bin/bash
# A training: qsub -v FILE=FILE.yaml pbs/training.sh
# Not run on a PBS so far: tests run it with a stand-in for qsub.
#PBS -l walltime=24:00:00 -j oe -r y
#PBS -N training -l select=1:ncpus=8
cd "$PBS_O_WORKDIR" && . ./job.sh || exit 1
signal_after 86100 # walltime less 300 s
name=$(basename "$FILE" .yaml)
on_scratch "training/$name" asecalc-ml train "$FILE" --resume-or-start --threads 8
resubmit_or_end pbs/training.sh "$FILE"
