"""Backbones as one call: aligned RGB faces in, embeddings and norms out."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.images.embedding import embed
from fpsset.models.iresnet import IMAGE_SIZE, fold
from fpsset.runtime.digests import file_sha256
from fpsset.weights.cards import BackboneCard, backbone_card, is_weights, read_weights
from fpsset.weights.official import load_official

_ONNX_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclasses.dataclass(frozen=True)
class Recogniser:
    """A backbone and how it wants its images.

    Attributes:
      card: of the backbone.
      run: [B, 112, 112, 3] float32 in the card's colour order and normalisation -> ([B, D] unit
        rows, [B] norms).
    """

    card: BackboneCard
    run: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

    def __call__(self, faces: np.ndarray, swap: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Embeds faces.

        Args:
          faces: [B, 112, 112, 3], RGB, values of 0..255.
          swap: give them in the other colour order than the card's.

        Returns:
          ([B, D] float32 unit rows, [B] float32 norms).
        """
        return self.run(self.card.normalize(faces[..., ::-1] if swap else faces))


def load_recogniser(config) -> Recogniser:
    """The backbone that `config.weights` names.

    Args:
      config: as `fpsset.config.extraction_config` lists it.

    Raises:
      InputError: there is no such backbone, or the config does not say how an ONNX one wants its images,
        or says something else than the weights' card.
    """
    path = pathlib.Path(config.weights)
    if path.suffix == ".onnx":
        return _onnx(path, config)
    return backbone_recogniser(*load_backbone(config), config.dtype)


def backbone_recogniser(card: BackboneCard, variables: dict, dtype: str) -> Recogniser:
    """A backbone that `load_backbone` gave, with convolutions of the dtype, as a Recogniser."""

    def run(images: np.ndarray):
        return tuple(np.asarray(values) for values in embed(variables, images, jnp.dtype(dtype)))

    return Recogniser(card, run)


def load_backbone(config, name: str = "config") -> tuple[BackboneCard, dict]:
    """A backbone of this package: its card, and folded variables for `embed` on the device.

    Args:
      config: `weights`, converted ones or a published checkpoint, and where the user states them
        `color_order`, `mean` and `std`.
      name: of the config, for messages.

    Raises:
      InputError: there is none, or what is stated is not what the card says.
    """
    path = pathlib.Path(config.weights)
    if not path.exists():
        raise InputError(f"{path}: no such weights; give --{name}.weights=FILE, or a converted folder")
    if path.suffix == ".onnx":
        raise InputError(
            f"{path}: an ONNX file cannot embed within training; make features of clips with it first "
            "(configs/extract.py --config.augmented=4), and train on those"
        )
    weights = read_weights(path) if is_weights(path) else load_official(path, config.color_order or None)
    card = weights.card.backbone
    if card is None:
        raise InputError(f"{path}: holds no backbone; give the weights that embed images")
    for field in ("color_order", "mean", "std"):
        stated, wanted = config.get(field), getattr(card, field)
        if stated not in (None, "", wanted):
            raise InputError(f"{name}.{field} is {stated!r}, but {path} wants {wanted!r}; leave it out")
    return card, jax.device_put(fold(weights["backbone"]))


def _onnx(path: pathlib.Path, config) -> Recogniser:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path}: needs onnxruntime; pip install 'fpsset[onnx]'") from error
    for field, example in (("color_order", "bgr"), ("mean", "127.5"), ("std", "127.5")):
        if config[field] in (None, ""):
            raise InputError(
                f"config.{field} is not given, and {path} does not say what it wants; e.g. "
                f"--config.{field}={example}"
            )
    sha256 = file_sha256(path)
    try:
        session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise InputError(f"{path}: cannot be read as ONNX ({first_line(error)})") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if len(inputs) == 1 and len(outputs) == 1 else None
    faces = {(3, IMAGE_SIZE, IMAGE_SIZE): True, (IMAGE_SIZE, IMAGE_SIZE, 3): False}
    fixed = tuple(shape[1:]) if shape and len(shape) == 4 else None
    if fixed not in faces or len(outputs[0].shape) != 2:
        held = ", ".join(f"{port.name} {port.shape}" for port in (*inputs, *outputs))
        raise InputError(f"{path}: is no recogniser of 112 x 112 faces with one output [N, D] ({held})")
    if inputs[0].type not in _ONNX_TYPES:
        raise InputError(f"{path}: takes {inputs[0].type}, not float images")
    channels_first, dtype = faces[fixed], _ONNX_TYPES[inputs[0].type]

    def run(images: np.ndarray):
        batch = shape[0] if isinstance(shape[0], int) else len(images)
        images = images.transpose(0, 3, 1, 2) if channels_first else images
        parts = []
        for start in range(0, len(images), batch):  # a batch size that the file fixes is exact
            part = np.zeros((batch, *images.shape[1:]), dtype)
            count = len(images[start : start + batch])
            part[:count] = images[start : start + batch]
            parts.append(session.run(None, {inputs[0].name: part})[0][:count])
        vectors = np.concatenate(parts).astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1)
        return vectors / np.maximum(norms, 1e-12)[:, None], norms

    card = backbone_card(path.name, sha256, config.color_order, config.mean, config.std)
    return Recogniser(card, run)
