#!/usr/bin/env bash
# Small trainings on QM9 with several seeds, for uncertainties and for landscapes (qm9_landscapes.py).
# bash docs/experiments/qm9_seeds.sh [TARGET ...]        (homo and zpve by default)
#
# NETWORK-TARGET-SIZE-SEED: the split and the weights at the start are drawn from the seed.
# physnet-TARGET-3000-init-SEED: the split is that of seed 0; the weights alone are drawn.
# Trainings that are registered are left out, and those that were interrupted are continued.
set -u
export OMP_NUM_THREADS=1
examples=$(realpath "$(dirname "$0")/../../examples/qm9")
[ $# -gt 0 ] || set -- homo zpve
registered=$(asecalc-ml models list)

small() { # NETWORK TARGET SIZE EPOCHS SEED NAME [OPTION ...]
  local network=$1 target=$2 size=$3 epochs=$4 seed=$5 name=$6 resume=
  shift 6
  grep -qw -- "$name" <<< "$registered" && return
  [ -e "training/$name/last.ckpt" ] && resume=--resume
  asecalc-ml train "$examples/$network.yaml" --name "$name" --target "$target" --seed "$seed" \
    --max_epochs "$epochs" --split.n_train "$size" --split.n_validation 200 --split.n_test 1000 --quiet $resume "$@"
}

for target; do
  for seed in 0 1 2 3 4; do
    small physnet $target 3000 40 $seed physnet-$target-3000-$seed
    [ $seed = 0 ] || small physnet $target 3000 40 $seed physnet-$target-3000-init-$seed \
      --split.file training/physnet-$target-3000-0/split.json
  done
done
for target; do
  for seed in 0 1 2 3 4; do
    for network in physnet schnet painn dtnn; do
      small $network $target 300 100 $seed $network-$target-300-$seed
      small $network $target 1000 60 $seed $network-$target-1000-$seed
      [ $network = physnet ] || small $network $target 3000 40 $seed $network-$target-3000-$seed
    done
  done
done
