#!/bin/bash
# A campaign on the cores of one node: qsub -v FILE=FILE.yaml pbs/campaign.sh
# Not run on a PBS so far: tests run it with a stand-in for qsub.
#PBS -l walltime=24:00:00 -j oe -r y
#PBS -N campaign -l select=1:ncpus=32
cd "$PBS_O_WORKDIR" && . ./job.sh || exit 1
signal_after 86100 # walltime less 300 s
name=$(basename "$FILE" .yaml)
on_scratch "runs/$name" asecalc-md campaign "$FILE" --workers 32
resubmit_or_end pbs/campaign.sh "$FILE"
