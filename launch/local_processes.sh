#!/usr/bin/env bash
# Trains with several processes on this machine.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/local_processes.sh N COMMAND [ARGUMENT ...]

Starts COMMAND N times and sets JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, by which the
processes find each other. On CPUs, JAX_NUM_CPU_DEVICES=2 gives each of them two devices. On a machine with
GPUs a single process uses them all, so there COMMAND alone is enough, and this script is only for trying out.

  JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2 launch/local_processes.sh 2 \
    python -m fpsset.main --config configs/quickstart.py --workdir runs/two

SIGTERM and Ctrl-C reach every process: all save and stop at the same step. If one fails, the others have
GRACE seconds (default 20) to exit by themselves. Exits with the code of the first process that failed. After
130 (stopped and saved) or 137 (a process was killed), repeat the command to resume.
USAGE
}

if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  usage >&2
  exit 2
fi
count=$1
shift
grace=${GRACE:-20}

# A free port for the first process to listen on.
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
  [ -n "$ended" ] || continue # interrupted by a signal, which the trap passes on
  unset "running[$ended]"
  if [ "$one" -ne 0 ] && [ "$code" -eq 0 ]; then
    code=$one
    (sleep "$grace" && stop TERM && sleep "$grace" && stop KILL) >/dev/null 2>&1 &
    disown
  fi
done
exit "$code"
