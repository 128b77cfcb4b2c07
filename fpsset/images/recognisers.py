"""Face recognisers: IResNet, ViT and ONNX backbones behind one call, from aligned RGB faces to embeddings."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from fpsset.data.rows import MAX_NORM
from fpsset.errors import InputError
from fpsset.images.aligned_faces import TEMPLATE, places_after_alignment
from fpsset.images.embedding import embed
from fpsset.images.onnx_network import load_onnx
from fpsset.models.backbones import folded, takes_keypoints
from fpsset.parallel.mesh import AXIS, local_mesh
from fpsset.runtime.progress import StepProgress
from fpsset.weights.cards import BackboneCard, is_weights, read_weights
from fpsset.weights.official import load_official

NOT_EMBEDDED = "its embedding is not finite, or zero"  # why an image is left out that could be read


@dataclasses.dataclass(frozen=True)
class Recogniser:
    """A backbone with its input conventions.

    Attributes:
      card: colour order and normalisation that the backbone expects.
      run: maps [B, 112, 112, 3] float32, in the card's colour order and normalisation, to ([B, D] unit rows,
        [B] norms); with `takes_keypoints`, it takes them as well, or None, see `embed`.
      takes_keypoints: whether embeddings depend on where the landmarks lie.
      any_number: whether `run` takes any number of images; else it is compiled for every other number.
    """

    card: BackboneCard
    run: Callable[..., tuple[np.ndarray, np.ndarray]]
    takes_keypoints: bool = False
    any_number: bool = False

    def __call__(
        self, faces: np.ndarray, swap: bool = False, keypoints: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Embeds faces.

        Args:
          faces: [B, 112, 112, 3], RGB, in [0, 255].
          swap: swaps red and blue, against the card.
          keypoints: from `keypoints`, of the first faces; None if they are not known or not used.

        Returns:
          ([B, D] float32 unit rows, [B] float32 norms).
        """
        images = self.card.normalize(faces[..., ::-1] if swap else faces)
        if keypoints is None:
            return self.run(images)
        every = np.resize(TEMPLATE, (len(faces), *TEMPLATE.shape))
        every[: len(keypoints)] = keypoints
        return self.run(images, every)

    def rows(self, count: int, batch_size: int) -> int:
        """How many faces to embed at once, where `count` of a batch are there: all others are wasted.

        Powers of two if any number will do, because accelerators prepare themselves for each number.
        """
        return min(batch_size, 1 << (count - 1).bit_length()) if self.any_number else batch_size

    def keypoints(self, landmarks: np.ndarray | None) -> np.ndarray | None:
        """Where landmarks lie in aligned faces, if the backbone uses it.

        Args:
          landmarks: [A, 5, 2] pixels of the images that faces were aligned by; None if not known.

        Returns:
          [A, 5, 2] float32 shares of the face's width and height; None if not used or not known.
        """
        if not self.takes_keypoints or landmarks is None:
            return None
        return np.stack([places_after_alignment(one) for one in landmarks])


def embedded(embeddings: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Which faces a recogniser embedded: [...] bool, from embeddings [..., D] and norms [...]."""
    return np.isfinite(embeddings).all(axis=-1) & embeddings.any(axis=-1) & (norms > 0) & (norms <= MAX_NORM)


def warn_of_equal_norms(norms: np.ndarray) -> None:
    """Says so if norms [M] tell nothing of the faces, because their network normalises its embeddings."""
    if len(norms) > 1 and np.ptp(norms) < 1e-3 * norms.max():
        StepProgress.say("warning: all norms are equal; use a network that does not normalise its embeddings")


def load_recogniser(config, devices: Sequence[jax.Device] | None = None) -> Recogniser:
    """Loads the backbone that `config.weights` names.

    Args:
      config: see `fpsset.config.extraction_config`.
      devices: see `backbone_recogniser`; an ONNX file runs on those that onnxruntime chooses.

    Raises:
      InputError: there is no such backbone, the config lacks the input conventions of an ONNX file, or it
        contradicts the card of other weights.
    """
    path = pathlib.Path(config.weights)
    if path.suffix == ".onnx":
        return Recogniser(*load_onnx(path, config), any_number=True)
    return backbone_recogniser(*load_backbone(config), config.dtype, devices)


def backbone_recogniser(
    card: BackboneCard, variables: dict, dtype: str, devices: Sequence[jax.Device] | None = None
) -> Recogniser:
    """Wraps a backbone from `load_backbone`.

    Args:
      card: of the backbone.
      variables: of the backbone.
      dtype: of the convolutions.
      devices: of this process, which share every batch evenly; None: all of them.
    """
    mesh = local_mesh(devices)
    everywhere = jax.device_put(variables, NamedSharding(mesh, P()))

    def spread(rows: np.ndarray) -> jax.Array:
        filled = -(-len(rows) // mesh.size) * mesh.size
        rows = np.resize(rows, (filled, *rows.shape[1:])) if filled > len(rows) else rows
        return jax.device_put(rows, NamedSharding(mesh, P(AXIS)))

    def run(images: np.ndarray, keypoints: np.ndarray | None = None):
        points = None if keypoints is None else spread(keypoints)
        found = embed(everywhere, spread(images), jnp.dtype(dtype), mesh, points)
        return tuple(np.asarray(values)[: len(images)] for values in found)

    return Recogniser(card, run, takes_keypoints(variables))


def load_backbone(config, name: str = "config") -> tuple[BackboneCard, dict]:
    """Loads an IResNet or a ViT.

    Args:
      config: `weights`, a converted folder or a published checkpoint; `color_order`, `mean` and `std` may be
        given, but must agree with the card of the weights.
      name: prefix of the config's fields, for error messages.

    Returns:
      (the card, folded variables on the device, for `embed`).

    Raises:
      InputError: there is no such backbone, or a field contradicts its card.
    """
    path = pathlib.Path(config.weights)
    if not path.exists():
        raise InputError(f"{path}: no such weights; give --{name}.weights=FILE, or a converted folder")
    if path.suffix == ".onnx":
        raise InputError(
            f"{path}: training cannot use an ONNX file; extract features of augmented clips with it first "
            "(configs/extract.py --config.augmented=4), and train on those"
        )
    weights = read_weights(path) if is_weights(path) else load_official(path, config.color_order or None)
    card = weights.card.backbone
    if card is None:
        raise InputError(f"{path}: contains no backbone; give weights that embed images")
    for field in ("color_order", "mean", "std"):
        stated, wanted = config.get(field), getattr(card, field)
        if stated not in (None, "", wanted):
            raise InputError(f"{name}.{field} is {stated!r}, but {path} needs {wanted!r}; leave it out")
    return card, jax.device_put(folded(weights["backbone"]))
