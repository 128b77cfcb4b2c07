#!/usr/bin/env bash
# Checks and times the package on one GPU, in at most eight minutes, on a machine without a network.
#
#   benchmarks/on_gpu.sh [WHEELS] [GOLDEN] [OUT]
#
# WHEELS is a folder filled by `gpu_wheels.sh`, GOLDEN one with the golden values of the official code
# (`aggregator_eval.npz`, `aggregator_train.npz`, `backbone_eval.npz`, `weights_rule.py`), without which parity is
# left out, and OUT one for what is printed. The machine needs Python 3.11 or newer, JAX with CUDA, flax, optax,
# orbax-checkpoint, chex and PyTorch. FPSSET_GPU_BRIEF=1 takes small sizes, to try the script on a CPU.
set -uo pipefail
cd "$(dirname "$0")/.."
wheels=${1:-.wheels} golden=${2:-../shared/parity} out=${3:-runs/on_gpu}
mkdir -p "$out"
if compgen -G "$wheels/*.whl" >/dev/null; then
  site=$(mktemp -d)
  python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl || exit
  export PYTHONPATH=$site
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
failed=0 errors=$(mktemp)
part() {  # NAME SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$out/$name.txt" 2>"$errors"
  local code=$?
  head -n 40 "$out/$name.txt"
  if [ $code -ne 0 ]; then failed=1; tail -n 25 "$errors"; fi
  echo "== $name: exit $code in $((SECONDS - start)) s"
}
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
part parity 150 python3 benchmarks/gpu.py parity --golden "$golden"
part inference 120 python3 benchmarks/gpu.py inference
part training 120 python3 benchmarks/gpu.py training
part backbone 150 python3 benchmarks/gpu.py backbone
part quickstart 150 python3 -m fpsset.main --config configs/quickstart.py --workdir "$(mktemp -d)/run"
exit $failed
