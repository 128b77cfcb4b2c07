"""Training runs as real processes, and what they leave behind."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.compiling import FLAGS

ROOT = pathlib.Path(__file__).resolve().parents[1]


def start(config: str, *arguments, **environment: str) -> subprocess.Popen:
    """Starts a run of a file in configs/, with variables of its environment by their names."""
    command = [sys.executable, "-W", "error::UserWarning", "-m", "fpsset.main"]
    return subprocess.Popen(
        [*command, f"--config={ROOT}/configs/{config}", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS, **environment},
    )


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    """Waits for a run to end with an exit code; returns its stdout and stderr."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return out, err


def steps_logged(workdir: pathlib.Path) -> list[int]:
    """The steps in the complete lines of metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def saved_state(workdir: pathlib.Path, step: int):
    """The state in a checkpoint, as NumPy arrays."""
    path = workdir.absolute() / f"checkpoints/{step}/state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(path, restore_args=as_numpy)
