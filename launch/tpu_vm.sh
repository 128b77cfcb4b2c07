#!/usr/bin/env bash
# Runs on a TPU VM, or a slice of several hosts, from a machine with gcloud.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/tpu_vm.sh create  NAME TYPE [VERSION]   e.g. fpsset v5litepod-8 v2-alpha-tpuv5-lite
       launch/tpu_vm.sh install NAME                  copies this repository to every worker and installs it
       launch/tpu_vm.sh run     NAME --config CONFIG --workdir DIR [--config.key=value ...]
       launch/tpu_vm.sh fetch   NAME DIR [INTO]       copies a workdir from the first worker (into .)
       launch/tpu_vm.sh delete  NAME

ZONE and PROJECT name the zone (default us-central1-a) and the project (default gcloud's own). SPOT=1 creates
a preemptible VM. DRY=1 prints every command instead of running it.

`install` brings Python with it, as some images have 3.10 and fpsset needs 3.11 or newer: uv, which it installs
where it is missing, fetches the version that PYTHON names (default 3.12). It ends with `fpsset doctor`, which
fails where JAX finds no TPU.

If a slice has several workers, or may be preempted, put checkpoints in a bucket that all workers can reach:
--config.checkpoints=gs://BUCKET/RUN. `run` restarts whatever a signal stopped (exit code 130), up to RETRIES
times (default 100). To continue the run of a deleted VM, `create`, `install` and `run` again.
USAGE
}

if [ $# -lt 2 ]; then
  usage >&2
  exit 2
fi
action=$1 name=$2
shift 2
where=(--zone "${ZONE:-us-central1-a}")
if [ -n "${PROJECT:-}" ]; then
  where+=(--project "$PROJECT")
fi
here=$(cd "$(dirname "$0")/.." && pwd)

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

everywhere() {
  do_or_show gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command "$1"
}

case $action in
  create)
    if [ $# -lt 1 ]; then
      usage >&2
      exit 2
    fi
    spot=()
    if [ -n "${SPOT:-}" ]; then
      spot=(--spot)
    fi
    do_or_show gcloud compute tpus tpu-vm create "$name" "${where[@]}" --accelerator-type "$1" \
      --version "${2:-tpu-ubuntu2204-base}" "${spot[@]}"
    ;;
  install)
    # Only tracked files, no data.
    archive=fpsset.tar.gz
    if [ -z "${DRY:-}" ]; then
      archive=$(mktemp --suffix .tar.gz)
      trap 'rm -f "$archive"' EXIT
    fi
    do_or_show git -C "$here" archive --format tar.gz --output "$archive" HEAD
    do_or_show gcloud compute tpus tpu-vm scp "$archive" "$name:fpsset.tar.gz" "${where[@]}" --worker=all
    # shellcheck disable=SC2016 # the workers' shells expand HOME and PATH
    steps=(
      'export PATH="$HOME/.local/bin:$PATH"'
      'mkdir -p fpsset'
      'tar -xzf fpsset.tar.gz -C fpsset'
      'cd fpsset'
      'command -v uv || curl -LsSf https://astral.sh/uv/install.sh | sh || python3 -m pip install -q --user uv'
      'rm -rf .venv'
      "uv venv -q --python $(printf %q "${PYTHON:-3.12}") .venv"
      'uv pip install -q --python .venv/bin/python -e ".[tpu]"'
      'JAX_PLATFORMS=tpu .venv/bin/fpsset doctor'
    )
    # With pipefail a failed download is not taken for an empty script that ran.
    everywhere "set -eo pipefail$(printf '; %s' "${steps[@]}")"
    ;;
  run)
    if [ $# -eq 0 ]; then
      usage >&2
      exit 2
    fi
    # Quoted here so that the workers' shells pass every argument on unchanged.
    command="cd fpsset && FPSSET_HOSTS=auto .venv/bin/python -m fpsset.main$(printf ' %q' "$@")"
    for ((try = 0; try <= ${RETRIES:-100}; try++)); do
      code=0
      everywhere "$command" || code=$?
      if [ "$code" -ne 130 ]; then
        exit "$code"
      fi
    done
    exit 130
    ;;
  fetch)
    if [ $# -lt 1 ]; then
      usage >&2
      exit 2
    fi
    do_or_show gcloud compute tpus tpu-vm scp --recurse "$name:fpsset/$1" "${2:-.}" "${where[@]}" --worker=0
    ;;
  delete)
    do_or_show gcloud compute tpus tpu-vm delete "$name" "${where[@]}"
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac
