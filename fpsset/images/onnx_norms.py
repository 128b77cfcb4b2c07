"""Norms of ONNX networks that normalise their embeddings, and faces of another size than 112 x 112."""

import pathlib

import numpy as np

from fpsset.errors import first_line
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.runtime.progress import StepProgress

_PASSED = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")  # nodes that keep the values
SIBLINGS = "session.model_external_initializers_file_folder_path"  # of a network that is in memory


def probe_faces() -> np.ndarray:
    """Images that differ, [4, 112, 112, 3] float32 in [-1, 1], to look at what a network gives."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    contrast = np.array([0.1, 0.4, 0.7, 1.0], np.float32)[:, None, None, None]
    return coarse.repeat(IMAGE_SIZE // 8, axis=1).repeat(IMAGE_SIZE // 8, axis=2) * contrast


def is_normalised(vectors: np.ndarray) -> bool:
    """Whether all rows [B, D] have length one."""
    return bool((np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-2).all())


def agrees(vectors: np.ndarray, bare: np.ndarray) -> bool:
    """Whether rows [B, D] are those of `bare`, normalised, and the latter's lengths differ."""
    bare = bare.reshape(len(bare), -1)
    lengths = np.linalg.norm(bare, axis=1)
    if (
        bare.shape != vectors.shape
        or not np.isfinite(lengths).all()
        or np.ptp(lengths) < 1e-3 * lengths.max()
    ):
        return False
    return bool(np.allclose(bare / np.maximum(lengths, 1e-12)[:, None], vectors, atol=2e-2))


def before_normalisation(path: pathlib.Path, model, output: str, options, providers: list[str]):
    """A session of the network that also gives what goes into the normalisation of its output.

    Args:
      path: the `.onnx` file.
      model: what to take instead of the file's content, which is changed; None: the latter.
      output: name of the embeddings.
      options: of the session, `SIBLINGS` among them.
      providers: of the session.

    Returns:
      (session, name of the second output); None, with a line on stderr, where the graph does not tell.
    """
    try:
        import onnx
    except ImportError:
        StepProgress.say(f"{path}: normalises its embeddings; to get their norms: pip install onnx")
        return None
    import onnxruntime

    try:
        model = onnx.load(path, load_external_data=False) if model is None else model
        name = _normalised_by_last_node(model.graph, output)
        if name is None:
            return None
        kind = next(port.type.tensor_type.elem_type for port in model.graph.output if port.name == output)
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    except Exception as error:  # neither library's exceptions share a base
        StepProgress.say(f"{path}: its embeddings' norms cannot be had ({first_line(error)})")
        return None
    return session, name


def _normalised_by_last_node(graph, output: str) -> str | None:
    """The value that the last node divides by its own length; None if there is no such node."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _PASSED:
        node = makers.get(node.input[0])
    if node is None:
        return None
    if node.op_type == "LpNormalization":
        return node.input[0]
    if node.op_type not in ("Div", "Mul"):
        return None
    for value, length in (node.input[:2], node.input[1::-1]):
        if value in makers and _comes_from(length, value, makers):
            return value
    return None


def _comes_from(name: str, origin: str, makers: dict) -> bool:
    """Whether a value is computed from another."""
    waiting, seen = [name], set()
    while waiting:
        one = waiting.pop()
        if one == origin:
            return True
        if one in makers and one not in seen:
            seen.add(one)
            waiting += makers[one].input
    return False


def scaled(images: np.ndarray, side: int) -> np.ndarray:
    """Images [B, n, n, 3] at another size, [B, side, side, 3]: linear, with the pixels' areas aligned."""
    if images.shape[1] == side:
        return images
    weights = _weights(images.shape[1], side)
    return np.einsum("ih,bhwc,jw->bijc", weights, images, weights, optimize=True).astype(np.float32)


def _weights(before: int, after: int) -> np.ndarray:
    """[after, before] float32 weights of each pixel; a reduced image averages over all pixels."""
    centres = (np.arange(after) + 0.5) * before / after - 0.5
    reach = max(before / after, 1.0)
    weights = np.maximum(1 - np.abs(np.arange(before) - centres[:, None]) / reach, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
