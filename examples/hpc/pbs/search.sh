#!/bin/bash
# A search for hyperparameters: qsub -v FILE=FILE.yaml pbs/search.sh
# Not run on a PBS so far: tests run it with a stand-in for qsub.
#PBS -l walltime=24:00:00 -j oe -r y
#PBS -N search -l select=1:ncpus=8
cd "$PBS_O_WORKDIR" && . ./job.sh || exit 1
signal_after 86100 # walltime less 300 s
in_place asecalc-ml tune "$FILE" --resume-or-start --search.workers 8
resubmit_or_end pbs/search.sh "$FILE"
