#!/usr/bin/env bash
# Several processes on this machine that train together.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/local_processes.sh N COMMAND [ARGUMENT ...]

Starts COMMAND N times; the processes find each other by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID, which are set for them. On CPUs, JAX_NUM_CPU_DEVICES=2 gives each two devices; on a machine
with GPUs one process takes them all, so there this is for trying out: the command alone does.

  JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2 launch/local_processes.sh 2 \
    python -m fpsset.main --config configs/quickstart.py --workdir runs/two

SIGTERM and Ctrl-C reach every process: they save, and stop at one step. Where one fails, the others are
given GRACE seconds (20) to end by themselves. Exits with the code of the first that failed: 130 says that
the same command goes on, and so does 137, of a process that was killed.
USAGE
}

if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  usage >&2
  exit 2
fi
count=$1
shift
grace=${GRACE:-20}

# A port that is free now; the first process listens on it.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=localhost:$port JAX_NUM_PROCESSES=$count

declare -A running=()
stop() {
  for pid in "${!running[@]}"; do
    kill -s "$1" "$pid" 2>/dev/null || true
  done
}
for ((i = 0; i < count; i++)); do
  JAX_PROCESS_ID=$i "$@" &
  running[$!]=$i
  echo "process $i: pid $!" >&2
done
trap 'stop TERM' TERM INT

code=0
while [ "${#running[@]}" -gt 0 ]; do
  ended=
  one=0
  wait -n -p ended "${!running[@]}" || one=$?
  [ -n "$ended" ] || continue # a signal came, and was passed on
  unset "running[$ended]"
  if [ "$one" -ne 0 ] && [ "$code" -eq 0 ]; then
    code=$one
    (sleep "$grace" && stop TERM && sleep "$grace" && stop KILL) >/dev/null 2>&1 &
    disown
  fi
done
exit "$code"
