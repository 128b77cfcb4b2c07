"""Training runs as real processes, and what they leave behind."""

import json
import pathlib
import subprocess

import jax
import numpy as np
import orbax.checkpoint as ocp

from fpsset.data.files import write_features
from fpsset.data.synthetic import make_synthetic
from tests.compiling import FLAGS
from tests.forked import Forked

ROOT = pathlib.Path(__file__).resolve().parents[1]


def few_people(folder: pathlib.Path) -> list[str]:
    """Options of a run on two small feature files, written to `folder`, whose sets have one padded size."""
    options = ["--config.model.name=face_coreset_net", "--config.model.num_heads=4", "--config.batch_size=8"]
    for seed, (use, people) in enumerate({"train": 60, "eval": 40}.items()):
        table, _ = make_synthetic(people, seed, dim=32, stills=(3, 5), clips=(0, 1), frames=(2, 3))
        write_features(folder / f"{use}.npz", table)
        options.append(f"--config.data.{use}={folder}/{use}.npz")
    return [*options, "--config.data.holdout=0.3", "--config.log_every=5"]


def start(config: str, *arguments) -> Forked:
    """Starts a run of a file in configs/."""
    return Forked("fpsset.main", f"--config={ROOT}/configs/{config}", *arguments, XLA_FLAGS=FLAGS)


def finish(process: Forked | subprocess.Popen, code: int = 0) -> tuple[str, str]:
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
