#!/usr/bin/env bash
# Bayesian optimization against random search: PhysNet on HOMO and ZPVE of 1,000 molecules of QM9.
# bash docs/experiments/search_qm9.sh [REPETITIONS]      (10 by default, about 40 core minutes each)
#
# Searches of one repetition share the data, the split, the weights at the start, and their first five trials.
# A search that was interrupted is continued.
set -u
export OMP_NUM_THREADS=1
here=$(realpath "$(dirname "$0")")
for repetition in $(seq 0 $((${1:-10} - 1))); do
  for target in homo zpve; do
    for arm in random random-forest gaussian-process; do
      case $arm in
        random) method=(--search.method random) ;;
        *) method=(--search.method bayesian --search.surrogate $arm) ;;
      esac
      asecalc-ml tune "$here/search_qm9.yaml" --name search-$target-$arm-$repetition --target $target \
        --seed $repetition --search.seed $repetition "${method[@]}" --resume-or-start --quiet
    done
  done
done
