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

Options of sbatch go before the script and override those in it. DIR and the data must be on a file system
that all nodes share. PYTHON names the interpreter (default .venv/bin/python). JAX finds the processes through
SLURM's variables.

Five minutes before its time limit, or when preempted, the run saves and stops, and the job is requeued to
resume from there.
USAGE
}

if [ $# -eq 0 ] || [ "$1" = --help ]; then
  usage >&2
  exit 2
fi
if [ -z "${SLURM_JOB_ID:-}" ]; then
  echo "launch/slurm.sh is a job script; start it with sbatch" >&2
  exit 2
fi

code=0
srun --kill-on-bad-exit=1 "${PYTHON:-.venv/bin/python}" -m fpsset.main "$@" || code=$?
# 130: stopped by a signal and saved.
if [ "$code" -eq 130 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
