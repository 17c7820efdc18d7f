#!/bin/bash
# A campaign on several nodes, which form a Ray cluster: sbatch slurm/campaign_ray.sh FILE.yaml
# The campaign's folder is on a file system that all nodes see. This script was run with --nodes=1 only.
#SBATCH --time=24:00:00 --signal=B:TERM@300 --requeue
#SBATCH --output=%x-%j.log --open-mode=append
#SBATCH --job-name=campaign --nodes=4 --ntasks-per-node=1 --cpus-per-task=32
. ./job.sh || exit 1
cpus=$SLURM_CPUS_PER_TASK n_others=$((SLURM_JOB_NUM_NODES - 1))
port=$((20000 + SLURM_JOB_ID % 10000)) # of this job, where a node is shared
export RAY_ADDRESS=$(hostname):$port OMP_NUM_THREADS=1

ray start --block --head --port=$port --num-cpus="$cpus" --include-dashboard=false &
until ray status >/dev/null 2>&1; do
    kill -0 $! || exit 1
    sleep 1
done
[ $n_others = 0 ] || srun --nodes=$n_others --ntasks=$n_others --cpus-per-task="$cpus" --exclude="$(hostname)" \
    ray start --block --address="$RAY_ADDRESS" --num-cpus="$cpus" &

in_place asecalc-md campaign "$1" --executor ray --workers $((cpus * SLURM_JOB_NUM_NODES))
requeue_or_end
