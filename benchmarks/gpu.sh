#!/bin/bash
# On a machine with a CUDA device, in ten minutes: the tests marked "gpu", ethanol against torchmd-net's eager
# calculator, batches, neighbors and size. Logs and records go to a folder.
#
#   benchmarks/gpu.sh [FOLDER]                                      PYTHON=.venv/bin/python for another Python
#   DEVICE=cpu QUICK=--quick benchmarks/gpu.sh FOLDER               tries the script where there is no device
set -u
cd "$(dirname "$0")/.."
folder=${1:-gpu-results}
python=${PYTHON:-python}
device=${DEVICE:-cuda}
mkdir -p "$folder"

step() { # seconds, name, command: what fails or takes too long does not keep the rest from being measured
    local limit=$1 name=$2
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$folder/$name.log" 2>&1
    local status=$?
    tail -n 12 "$folder/$name.log"
    echo "== $name: exit status $status after $SECONDS s"
    [ $status -eq 0 ] || failed+=" $name"
}

measure() { # seconds, script, arguments
    local limit=$1 name=$2
    shift 2
    step "$limit" "$name" "$python" "benchmarks/$name.py" --device "$device" ${QUICK:-} --json "$folder/$name.json" "$@"
}

failed=
if [ "$device" = cuda ]; then
    step 30 device "$python" -c "import torch; print(torch.__version__, torch.cuda.get_device_name())"
    step 200 pytest "$python" -m pytest -m gpu -q
fi
measure 180 single_molecule ${QUICK:-"ET 128 × 6" "ET 64 × 4"}
[ -f benchmarks/size.py ] && measure 120 size
measure 60 batches --sizes 64 --mixed 0 --members 1
measure 30 neighbors --steps 50 --skins 1
"$python" benchmarks/page.py "$folder"/*.json >"$folder/page.md"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
