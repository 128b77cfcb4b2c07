"""Runs ONNX networks that embed aligned faces."""

import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.images.onnx_norms import (
    SIBLINGS,
    agrees,
    before_normalisation,
    is_normalised,
    probe_faces,
    scaled,
)
from fpsset.images.onnx_weights import without_negligible
from fpsset.images.presets import PRESETS, completed
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.runtime.digests import file_sha256, short_digest
from fpsset.weights.cards import BackboneCard, backbone_card

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_LEAST_SIDE, _LARGEST_SIDE = 32, 512  # pixels
_ERRORS_ONLY = 3  # severity; some files declare a batch of 1 for an output that has one for each image
# The field in which an initializer names the file that has its values: the key 'location', then the name.
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]*[\x00-\x7f])")


def load_onnx(path: pathlib.Path, config) -> tuple[BackboneCard, Run]:
    """Loads a network of one image input and an output of embeddings, with or without one of their norms.

    Args:
      path: an `.onnx` file; values that it keeps in other files are beside it.
      config: `color_order`, `mean` and `std` of the input, or a `preset` of them.

    Returns:
      (card, run), see `Recogniser`.

    Raises:
      InputError: onnxruntime is not installed, a setting is not given, or the file is another network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path}: needs onnxruntime; pip install 'fpsset[onnx]'") from error
    stated = completed(config, config.get("preset"))
    if missing := [f"--config.{name}" for name, value in stated.items() if value is None]:
        raise InputError(
            f"{path}: does not contain what it expects of its input; give --config.preset "
            f"({', '.join(PRESETS)}), or {', '.join(missing)}, e.g. --config.color_order=bgr "
            "--config.mean=127.5 --config.std=127.5"
        )
    digest = _digest(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry(SIBLINGS, str(path.parent.absolute()))
    model = without_negligible(path)
    try:
        providers = onnxruntime.get_available_providers()
        source = path if model is None else model.SerializeToString()
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise InputError(f"{path}: cannot be read as ONNX ({first_line(error)})") from error
    form = _form(session, path)
    if len(form.outputs) == 1 and is_normalised(_outputs(session, form, probe_faces())[0]):
        found = before_normalisation(path, model, form.outputs[0], options, providers)
        if found is not None:
            bared, bared_form = found[0], form.with_bare(found[1])
            if agrees(*_outputs(bared, bared_form, probe_faces())):
                session, form = bared, bared_form

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vectors, *norms = _outputs(session, form, images)
        if form.bare:
            norms = [np.linalg.norm(norms[0].reshape(len(images), -1), axis=1)]
        with np.errstate(over="ignore", invalid="ignore"):  # `embedded` tells which rows overflowed
            lengths = np.linalg.norm(vectors, axis=1)
            unit = vectors / np.maximum(lengths, 1e-12)[:, None]
        return unit, norms[0].reshape(-1) if norms else lengths

    return backbone_card(path.name, digest, *stated.values()), run


class _Form(NamedTuple):
    image: str  # name of the input
    outputs: tuple[str, ...]  # names of the embeddings and, if there is one, of their norms
    channels_first: bool
    side: int  # pixels per side, to which aligned faces are scaled
    batch: int | None  # None for any
    dtype: type
    bare: bool = False  # the second output is not the norms, but the embeddings before they are normalised

    def with_bare(self, name: str) -> "_Form":
        return self._replace(outputs=(*self.outputs, name), bare=True)


def _outputs(session, form: _Form, images: np.ndarray) -> list[np.ndarray]:
    """The outputs of a network for images [B, 112, 112, 3], as float32."""
    batch = form.batch or len(images)
    images = scaled(images, form.side)
    images = images.transpose(0, 3, 1, 2) if form.channels_first else images
    parts = []
    for start in range(0, len(images), batch):  # a fixed batch size admits no smaller last batch
        part = np.zeros((batch, *images.shape[1:]), form.dtype)
        count = len(images[start : start + batch])
        part[:count] = images[start : start + batch]
        found = session.run(list(form.outputs), {form.image: part})
        parts.append([values[:count] for values in found])
    return [np.concatenate(values).astype(np.float32) for values in zip(*parts, strict=True)]


def _form(session, path: pathlib.Path) -> _Form:
    """What a network takes and gives; sides that are free are those of an aligned face."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if len(inputs) == 1 else ()
    sides = [side if isinstance(side, int) else None for side in shape[1:]]
    # A free side is an aligned face's, and a free number of channels stands where the other is not 3.
    first = len(sides) == 3 and (sides[0] == 3 or (sides[0] is None and sides[2] != 3))
    image = [IMAGE_SIZE if side is None else side for side in (sides[1:] if first else sides[:2])]
    fits = len(sides) == 3 and (sides[0] if first else sides[2]) in (3, None) and image[0] == image[1]
    fits = fits and _LEAST_SIDE <= image[0] <= _LARGEST_SIDE
    norms = [port for port in outputs if len(port.shape) == 1 or port.shape[1:] == [1]]
    vectors = [port for port in outputs if port not in norms and len(port.shape) == 2]
    known = len(vectors) == 1 and len(norms) <= 1 and len(outputs) == len(vectors) + len(norms)
    if len(shape) != 4 or not fits or not known:
        ports = ", ".join(f"{port.name} {port.shape}" for port in (*inputs, *outputs))
        raise InputError(
            f"{path}: has {ports}; give a recogniser of square faces with one input and one output "
            "[N, D], or also norms [N, 1]"
        )
    if inputs[0].type not in _TYPES:
        raise InputError(f"{path}: takes {inputs[0].type}; give a network that takes float images")
    return _Form(
        image=inputs[0].name,
        outputs=tuple(port.name for port in (*vectors, *norms)),
        channels_first=first,
        side=image[0],
        batch=shape[0] if isinstance(shape[0], int) else None,
        dtype=_TYPES[inputs[0].type],
    )


def _digest(path: pathlib.Path) -> str:
    """Identifies the network, with the values that it keeps in other files."""
    own = file_sha256(path)
    others = sorted(_external_files(path))
    return (
        short_digest(own, *(f"{name} {file_sha256(path.parent / name)}" for name in others))
        if others
        else own
    )


def _external_files(path: pathlib.Path) -> set[str]:
    """Names of the files, relative to the network's folder, in which it keeps values."""
    content, found = path.read_bytes(), set()
    for match in _LOCATION.finditer(content):
        length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(match[1]))  # a varint
        name = content[match.end() : match.end() + length].decode(errors="replace")
        if (path.parent / name).is_file():  # else onnxruntime will say so
            found.add(name)
    return found
