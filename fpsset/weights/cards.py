"""Converted weights on disk: variables as an Orbax checkpoint, and a card that describes them."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator
from typing import TypeVar

import jax
import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.runtime.digests import SEAL, checksums, short_digest, unsealed
from fpsset.runtime.files import read_json, replacing_folder, write_json
from fpsset.runtime.interrupts import stops_held

_FORMAT = 2  # 1 had no seal
_FIX = "convert the weights again"
CARD = "card.json"
_VARIABLES = "variables"


@dataclasses.dataclass(frozen=True)
class BackboneCard:
    """A backbone and the images it takes: aligned faces, normalised as (pixel - mean) / std.

    Attributes:
      architecture: e.g. 'ir_101', or the name of an ONNX file.
      color_order: 'bgr' or 'rgb'.
      mean: of pixels in 0..255.
      std: of pixels in 0..255.
      digest: of weights, colour order and normalisation; identifies the embeddings that it makes.
      alignment: name of the template that faces are aligned to.
    """

    architecture: str
    color_order: str
    mean: float
    std: float
    digest: str
    alignment: str = "arcface_112"

    def normalize(self, faces):
        """Converts RGB faces [..., 3] in 0..255, NumPy or JAX, to the backbone's float32 input."""
        faces = faces[..., ::-1] if self.color_order == "bgr" else faces
        return (faces.astype(np.float32) - self.mean) / np.float32(self.std)


@dataclasses.dataclass(frozen=True)
class AggregatorCard:
    """An aggregator and the embeddings it takes.

    Attributes:
      coreset_size: K.
      num_heads: heads of both attentions.
      dim: D, the width of the embeddings.
      norm_scale: factor from the backbone's norms to those used in training.
      backbone: digest of the backbone behind the training embeddings; empty if unknown.
      train_fingerprint: of the training faces; empty if unknown.
      quality: whether it weights faces by a learned quality.
      by_media: whether a medium's faces together weigh as one.
      model: 'face_coreset_net', 'posterior', 'whitened', 'plain' or another plain pooling.
      ignores_norms: whether norms weigh all faces alike, because the backbone's say nothing.
    """

    coreset_size: int
    num_heads: int
    dim: int
    norm_scale: float
    backbone: str = ""
    train_fingerprint: str = ""
    quality: bool = False
    by_media: bool = False
    model: str = "face_coreset_net"
    ignores_norms: bool = False


@dataclasses.dataclass(frozen=True)
class WeightsCard:
    """Provenance and content of converted weights.

    Attributes:
      family: 'FaceCoresetNet', 'AdaFace', 'CVLface', 'InsightFace' or 'IResNet'.
      source: name of the original file.
      sha256: of the original file.
      licence: as far as known.
      hyperparameters: found in the original file.
      ignored: descriptions of the parts of the file that were not used.
      backbone: None if the file has none.
      aggregator: None if the file has none.
    """

    family: str
    source: str
    sha256: str
    licence: str
    hyperparameters: dict[str, int | float | str]
    ignored: tuple[str, ...]
    backbone: BackboneCard | None
    aggregator: AggregatorCard | None


_Card = TypeVar("_Card", AggregatorCard, BackboneCard)


class Weights(dict):
    """Flax variables as NumPy arrays, by part: those present of 'aggregator', 'head' and 'backbone'.

    Attributes:
      card: WeightsCard.
    """

    def __init__(self, variables: dict[str, dict], card: WeightsCard):
        """See the class."""
        super().__init__(variables)
        self.card = card


def backbone_card(
    architecture: str, weights_digest: str, color_order: str, mean: float, std: float
) -> BackboneCard:
    """The card of a backbone with its digest, given the digest of its weights; see `BackboneCard`."""
    parts = f"{weights_digest} {color_order} {float(mean)} {float(std)}"
    return BackboneCard(architecture, color_order, mean, std, short_digest(parts))


def is_weights(path: pathlib.Path) -> bool:
    """Whether `path` is a folder that `save_weights` wrote."""
    return (path / CARD).is_file() and (path / _VARIABLES).is_dir()


def save_weights(path: pathlib.Path, weights: Weights) -> None:
    """Writes `path`/card.json and `path`/variables atomically.

    Args:
      path: folder to write; replaced if it holds converted weights already.
      weights: to save.

    Raises:
      InputError: `path` exists and holds anything else, or the disk is full.
    """
    import orbax.checkpoint as ocp

    path = pathlib.Path(path).absolute()
    if path.exists() and not is_weights(path):
        raise InputError(f"{path}: exists and is not a folder of converted weights; give another folder")
    if path.exists() and (others := sorted({file.name for file in path.iterdir()} - {CARD, _VARIABLES})):
        raise InputError(f"{path}: holds {others[0]!r}, which would be lost; move it, or give another folder")
    with replacing_folder(path) as beside:
        with (
            stops_held(),
            errors_raised_alone(),
            lone_checkpointer(ocp.PyTreeCheckpointHandler) as checkpointer,
        ):
            checkpointer.save(beside / _VARIABLES, dict(weights))
        fields = {"format": _FORMAT, **dataclasses.asdict(weights.card)}
        write_json(beside / CARD, fields | {"files": _checksums(beside)}, sealed=True)


def _read_card(path: pathlib.Path) -> tuple[WeightsCard, dict[str, str]]:
    """The card in a folder of converted weights, and the checksums recorded in it."""
    path = path / CARD
    fields = read_json(path, _FIX)
    if fields.get("format") != 1 or SEAL in fields:
        fields = unsealed(fields, str(path), _FIX)
    if fields.get("format") not in (1, _FORMAT):
        raise InputError(f"{path}: was written by another version of fpsset; {_FIX}")
    try:
        fields.pop("format")
        files = dict(fields.pop("files"))
        backbone, aggregator = fields.pop("backbone"), fields.pop("aggregator")
        card = WeightsCard(
            **fields | {"ignored": tuple(fields["ignored"])},
            backbone=make_card(BackboneCard, backbone) if backbone else None,
            aggregator=make_card(AggregatorCard, aggregator) if aggregator else None,
        )
        return card, files
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: cannot be read as a card of converted weights ({first_line(error)}); {_FIX}"
        ) from error


def make_card(kind: type[_Card], fields: dict) -> _Card:
    """A card from fields that were read; raises TypeError or ValueError if they are not those of one."""
    card = kind(**fields)
    for field in dataclasses.fields(kind):
        value = getattr(card, field.name)
        if type(value) is not field.type and not (field.type is float and type(value) is int):
            raise TypeError(f"{field.name!r} is {value!r}")
        if type(value) is int and not 0 <= value < 2**31:
            raise ValueError(f"{field.name!r} is {value!r}")
    return card


def read_weights(path: pathlib.Path) -> Weights:
    """Reads a folder that `save_weights` wrote.

    Raises:
      InputError: the folder is damaged or holds something else.
    """
    import orbax.checkpoint as ocp

    path = pathlib.Path(path).absolute()
    card, files = _read_card(path)
    held = _checksums(path)
    for name in sorted(files.keys() | held.keys()):
        if files.get(name) != held.get(name):
            raise InputError(
                f"{path / name}: is missing, damaged or not part of these weights; convert them again"
            )
    try:
        with stops_held(), lone_checkpointer(ocp.PyTreeCheckpointHandler) as checkpointer:
            tree = checkpointer.metadata(path / _VARIABLES).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            variables = checkpointer.restore(path / _VARIABLES, restore_args=as_numpy)
    except Exception as error:  # Orbax raises many types, e.g. out of memory; the files are those saved
        raise InputError(f"{path}: its weights could not be read ({first_line(error)}); try again") from error
    return Weights(variables, card)


@contextlib.contextmanager
def errors_raised_alone() -> Iterator[None]:
    """Drops Orbax's log records inside the block: it logs the tracebacks of errors that it raises as well."""
    logger = logging.getLogger("absl")
    logger.addFilter(_is_not_from_orbax)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_from_orbax)


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def lone_checkpointer(handler: type):
    """An Orbax checkpointer of this process alone, which never waits for others.

    Args:
      handler: class of Orbax that knows how the arrays are kept.
    """
    import orbax.checkpoint as ocp  # takes seconds to import

    from fpsset.weights.trained import silence_late_io_errors

    silence_late_io_errors()
    here = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    return ocp.Checkpointer(handler(multiprocessing_options=options), multiprocessing_options=options)


def _checksums(path: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file of the variables, by its path relative to `path`."""
    files = sorted(file for file in (path / _VARIABLES).rglob("*") if file.is_file())
    return checksums(path, files)
