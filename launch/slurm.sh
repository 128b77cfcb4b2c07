#!/usr/bin/env bash
# Runs on the nodes of a SLURM cluster, with one process per GPU.
#SBATCH --job-name=fpsset
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: sbatch [--nodes=N ...] launch/slurm.sh --config CONFIG --workdir DIR [--config.key=value ...]

Options of sbatch go before the script and override those in it. DIR, the data and this folder must be on a
file system that all nodes share. JAX finds the processes through SLURM's variables.

Every node needs a driver for CUDA 12. PYTHON names the interpreter (default .venv/bin/python), 3.11 or newer
with fpsset. Where the cluster has none, uv brings one (see https://docs.astral.sh/uv):

  uv venv --python 3.12 .venv && uv pip install --python .venv/bin/python -e '.[cuda]'

Five minutes before its time limit, or when preempted, the run saves and stops, and the job is requeued to
resume from there. DRY=1, in any shell, prints every command of the job instead of running it, the
requeuing included.
USAGE
}

if [ $# -eq 0 ] || [ "$1" = --help ]; then
  usage >&2
  exit 2
fi
if [ -z "${SLURM_JOB_ID:-}${DRY:-}" ]; then
  echo "launch/slurm.sh is a job script; start it with sbatch" >&2
  exit 2
fi

# Runs a command; a dry run prints it, with quotes where a shell needs them.
do_or_show() {
  if [ -z "${DRY:-}" ]; then
    "$@"
    return
  fi
  local word line=
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,+-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line# }"
}

python=${PYTHON:-.venv/bin/python}
if ! do_or_show "$python" -c 'import sys; assert sys.version_info >= (3, 11); import fpsset' 2>/dev/null; then
  echo "launch/slurm.sh: $python is no Python of 3.11 or newer with fpsset; see launch/slurm.sh --help" >&2
  exit 2
fi
code=0
do_or_show srun --kill-on-bad-exit=1 "$python" -m fpsset.main "$@" || code=$?
# 130: stopped by a signal and saved.
if [ "$code" -eq 130 ] || [ -n "${DRY:-}" ]; then
  do_or_show scontrol requeue "${SLURM_JOB_ID:-JOB}"
fi
exit "$code"
