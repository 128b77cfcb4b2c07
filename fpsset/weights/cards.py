"""Converted weights: variables as an Orbax checkpoint, with a card beside them that says what they are."""

import dataclasses
import json
import pathlib

import jax
import numpy as np

from fpsset.errors import InputError
from fpsset.runtime.digests import checksums, short_digest
from fpsset.runtime.files import replacing_folder, write_json

_FORMAT = 1
CARD = "card.json"
_VARIABLES = "variables"


@dataclasses.dataclass(frozen=True)
class BackboneCard:
    """What a backbone is and which images it wants.

    Attributes:
      architecture: e.g. 'ir_101', or the name of an ONNX file.
      color_order: 'bgr' or 'rgb', of the channels it takes.
      mean: subtracted from pixels of 0..255, and
      std: what they are then divided by.
      digest: names the embeddings it gives: of its weights, colour order and normalisation.
      alignment: the template that faces are aligned to.
    """

    architecture: str
    color_order: str
    mean: float
    std: float
    digest: str
    alignment: str = "arcface_112"

    def normalize(self, faces):
        """RGB faces [..., 3] with values of 0..255, NumPy or JAX -> float32 as the backbone wants them."""
        faces = faces[..., ::-1] if self.color_order == "bgr" else faces
        return (faces.astype(np.float32) - self.mean) / np.float32(self.std)


@dataclasses.dataclass(frozen=True)
class AggregatorCard:
    """What an aggregator is and which embeddings it wants.

    Attributes:
      coreset_size: K.
      num_heads: heads of both attentions.
      dim: D, the width of the embeddings.
      norm_scale: factor that brings norms, as its backbone gives them, to those it was trained with.
      backbone: digest of the backbone that gave the training embeddings; empty when not known.
      train_fingerprint: of the training faces; empty when not known.
      quality: whether it weighs faces by a learned quality.
      by_media: whether a medium's faces weigh as one.
    """

    coreset_size: int
    num_heads: int
    dim: int
    norm_scale: float
    backbone: str = ""
    train_fingerprint: str = ""
    quality: bool = False
    by_media: bool = False


@dataclasses.dataclass(frozen=True)
class WeightsCard:
    """Where weights come from and what they are.

    Attributes:
      family: who trained them and how: 'FaceCoresetNet', 'AdaFace', 'CVLface', 'InsightFace', 'IResNet'.
      source: name of the file they come from.
      sha256: of that file.
      licence: as far as known.
      hyperparameters: found in the file.
      ignored: what of the file was not used, in words.
      backbone: where there is one.
      aggregator: where there is one.
    """

    family: str
    source: str
    sha256: str
    licence: str
    hyperparameters: dict[str, int | float | str]
    ignored: tuple[str, ...]
    backbone: BackboneCard | None
    aggregator: AggregatorCard | None


class Weights(dict):
    """{'aggregator': ..., 'head': ..., 'backbone': ...}, those present: flax variables as NumPy arrays.

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
    """The card of a backbone whose weights are named by `weights_digest`; see `BackboneCard`."""
    parts = f"{weights_digest} {color_order} {float(mean)} {float(std)}"
    return BackboneCard(architecture, color_order, mean, std, short_digest(parts))


def is_weights(path: pathlib.Path) -> bool:
    """Whether `path` is a folder that `save_weights` wrote."""
    return (path / CARD).is_file() and (path / _VARIABLES).is_dir()


def save_weights(path: pathlib.Path, weights: Weights) -> None:
    """Writes `path`/card.json and `path`/variables, beside and then renamed.

    Args:
      path: a folder; one of converted weights is replaced.
      weights: what to write.

    Raises:
      InputError: `path` exists and is something else.
    """
    import orbax.checkpoint as ocp  # takes seconds to import

    path = pathlib.Path(path).absolute()
    if path.exists() and not (is_weights(path) and {p.name for p in path.iterdir()} == {CARD, _VARIABLES}):
        raise InputError(
            f"{path}: exists and holds something else than converted weights; give another folder"
        )
    with replacing_folder(path) as beside:
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(beside / _VARIABLES, dict(weights))
        fields = {"format": _FORMAT, **dataclasses.asdict(weights.card)}
        write_json(beside / CARD, fields | {"files": _checksums(beside)})


def _read_card(path: pathlib.Path) -> tuple[WeightsCard, dict[str, str]]:
    """The card, and checksums of the files beside it."""
    path = path / CARD
    try:
        fields = json.loads(path.read_text())
        if fields.pop("format") != _FORMAT:
            raise InputError(f"{path}: was written by another version of fpsset; convert the weights again")
        files = dict(fields.pop("files"))
        backbone, aggregator = fields.pop("backbone"), fields.pop("aggregator")
        card = WeightsCard(
            **fields | {"ignored": tuple(fields["ignored"])},
            backbone=BackboneCard(**backbone) if backbone else None,
            aggregator=AggregatorCard(**aggregator) if aggregator else None,
        )
        return card, files
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no card of converted weights; convert the weights again") from error


def read_weights(path: pathlib.Path) -> Weights:
    """What `save_weights` wrote.

    Raises:
      InputError: the folder holds something else, or is damaged.
    """
    import orbax.checkpoint as ocp

    path = pathlib.Path(path).absolute()
    card, files = _read_card(path)
    held = _checksums(path)
    for name in sorted(files.keys() | held.keys()):
        if files.get(name) != held.get(name):
            raise InputError(
                f"{path / name}: is missing, damaged or not of these weights; convert them again"
            )
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path / _VARIABLES).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        variables = checkpointer.restore(path / _VARIABLES, restore_args=as_numpy)
    return Weights(variables, card)


def _checksums(path: pathlib.Path) -> dict[str, str]:
    """The SHA-256 of every file of the variables, by its path from the card."""
    files = sorted(file for file in (path / _VARIABLES).rglob("*") if file.is_file())
    return checksums(path, files)
