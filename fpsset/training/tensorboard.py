"""What a run shows in TensorBoard, beside metrics.jsonl; without TensorFlow."""

import pathlib

import numpy as np

from fpsset.descriptors import Descriptors
from fpsset.errors import InputError
from fpsset.face_set import RaggedSets
from fpsset.files import replacing

_SHOWN = 2000  # descriptors in the projector


class Board:
    """Event files of a run, with scalars and histograms, and descriptors for the embedding projector.

    Use as a context manager.
    """

    def __init__(self, folder: pathlib.Path | None, done: int):
        """Opens `folder` after step `done`; what a resumed run does again hides what was there.

        Args:
          folder: of the event files; None shows nothing.
          done: steps done before.

        Raises:
          InputError: tensorboardX is missing.
        """
        self._folder = folder
        self._writer = None if folder is None else _writer(folder, done)

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_) -> None:
        if self._writer:
            self._writer.close()

    def write(self, step: int, **values) -> None:
        """Numbers about a step, under their names as `tag_of` makes them."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(tag_of(name), float(value), step)

    def validation(self, step: int, subjects: np.ndarray, sets: RaggedSets, described: Descriptors) -> None:
        """What the model makes of the held-out people; the projector shows the latest.

        Args:
          step: of training.
          subjects: [T] int, whom each set shows.
          sets: T sets, with scaled norms.
          described: of the sets, with their coresets.
        """
        if not self._writer:
            return
        spread = selection_spread(sets.embeddings, described.coreset)
        spread = spread[np.isfinite(spread)]
        histograms = {
            "faces/norm": sets.norms,
            "picks/norm": sets.norms[described.coreset[described.coreset >= 0]],
            "descriptors/norm": described.norms,
            "picks/spread": spread,
        }
        for name, values in histograms.items():
            if len(values):
                self._writer.add_histogram(name, values, step)
        if len(spread):
            self._writer.add_scalar("picks/mean_spread", spread.mean(), step)
        self._writer.flush()
        _write_projector(self._folder, subjects[:_SHOWN], np.diff(sets.starts)[:_SHOWN], described)


def selection_spread(embeddings: np.ndarray, coreset: np.ndarray) -> np.ndarray:
    """How far the picks of each set lie apart: the mean of (1 - cos) / 2 over their pairs.

    Args:
      embeddings: [M, D] unit rows.
      coreset: [T, K] int rows of them, -1 beyond a set's size.

    Returns:
      [T] in [0, 1]; NaN for sets of one pick.
    """
    valid = coreset >= 0
    total = (embeddings[np.maximum(coreset, 0)] * valid[..., None]).sum(axis=1, dtype=np.float64)
    count = valid.sum(axis=1)
    pairs = count * (count - 1)
    # The squared length of the sum holds each pick once with itself and twice with each other one.
    cosines = (total**2).sum(axis=1) - count
    return (1 - cosines / np.where(pairs, pairs, np.nan)) / 2


def tag_of(name: str) -> str:
    """A metric's name in the letters of TensorBoard's tags: 'tar@far=1e-3' as 'tar_at_far_1e-3'."""
    return name.replace("@", "_at_").replace("=", "_")


def _writer(folder: pathlib.Path, done: int):
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise InputError(
            "config.tensorboard needs tensorboardX; pip install 'fpsset[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


def _write_projector(
    folder: pathlib.Path, subjects: np.ndarray, sizes: np.ndarray, described: Descriptors
) -> None:
    """The files of TensorBoard's projector: vectors, what is known of each, and where both are."""
    known = zip(subjects, sizes, described.norms, strict=False)
    lines = ["subject\tfaces\tnorm", *(f"{subject}\t{size}\t{norm:.3f}" for subject, size, norm in known)]
    fields = {"tensor_name": "descriptors", "tensor_path": "descriptors.tsv", "metadata_path": "sets.tsv"}
    config = "".join(f'  {name}: "{value}"\n' for name, value in fields.items())
    with replacing(folder / "descriptors.tsv") as beside:
        np.savetxt(beside, described.vectors[: len(subjects)], "%.6g", "\t")
    with replacing(folder / "sets.tsv") as beside:
        beside.write_text("\n".join(lines) + "\n")
    with replacing(folder / "projector_config.pbtxt") as beside:
        beside.write_text(f"embeddings {{\n{config}}}\n")
