#!/usr/bin/env bash
# Fills a folder with the wheels that `on_gpu.sh` installs on a GPU machine without a network.
#
#   benchmarks/gpu_wheels.sh [FOLDER] [PYTHON_VERSION]
#
# The machine is expected to have JAX with CUDA, flax, optax, orbax-checkpoint, chex, PyTorch, NumPy, matplotlib,
# jinja2 and rich. These wheels, without their dependencies, are what it lacks.
set -euo pipefail
folder=${1:-.wheels} version=${2:-3.12}
platforms=(manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_24_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64)
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$folder" \
  --implementation cp --python-version "$version" "${platforms[@]/#/--platform=}" \
  absl-py array_record click grain ml-collections portpicker
ls "$folder"
