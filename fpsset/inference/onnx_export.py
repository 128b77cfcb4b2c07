"""Exports models to ONNX, for runtimes without JAX."""

import os
import pathlib

import jax
import numpy as np

from fpsset.errors import InputError
from fpsset.inference.aggregator import SetAggregator
from fpsset.inference.onnx_coreset_net import coreset_net
from fpsset.inference.onnx_faces import Faces
from fpsset.inference.onnx_graph import OPSET, Graph
from fpsset.inference.onnx_poolings import plain, posterior, whitened
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.pooling import PlainCoreset, WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.runtime.files import replacing

INPUTS = ("embeddings", "norms", "mask", "media")
_GRAPHS = {
    FaceCoresetNet: coreset_net,
    PosteriorPooling: posterior,
    WhitenedMedia: whitened,
    PlainCoreset: plain,
}


def export_onnx(path: str | os.PathLike, model: SetAggregator, media: bool = True) -> None:
    """Writes a model as ONNX (opset 18), for any number and size of sets.

    The graph takes embeddings [B, N, D] float32 unit rows, norms [B, N] float32 as the backbone gave them,
    mask [B, N] bool, and with `media` also media [B, N] int64 in [0, N), equal for the faces of a medium. It
    returns descriptor [B, D] float32, norm [B] float32 and coreset_indices [B, K] int64. Among faces of equal
    distance it picks the first; the model's own rule is by content.

    Args:
      path: the file to write; replaced atomically.
      model: any model; products of one with bfloat16 are in float32.
      media: whether media are an input, and count as in the model.

    Raises:
      InputError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError("ONNX export needs onnx; run pip install 'fpsset[export]'") from error
    module, graph = model.module, Graph()
    parameters = jax.tree.map(lambda value: np.asarray(value, np.float32), model.variables["params"])
    faces = Faces(graph, model.norm_scale, module.ignores_norms, media)
    picks = faces.pick(parameters["gamma"], module.coreset_size)
    person = _GRAPHS[type(module)](module, parameters, faces, picks)
    length = graph.op("Sqrt", graph.total(graph.op("Mul", person, person), keep=True))
    graph.nodes += [
        onnx.helper.make_node("Div", [person, graph.above_zero(length)], ["descriptor"]),
        onnx.helper.make_node("Squeeze", [length, graph.constant(np.array([1]))], ["norm"]),
        onnx.helper.make_node("Identity", [picks.indices], ["coreset_indices"]),
    ]
    kinds, dim = onnx.TensorProto, model.dim or "d"
    shapes = {
        "embeddings": (kinds.FLOAT, ("b", "n", dim)),
        "norms": (kinds.FLOAT, ("b", "n")),
        "mask": (kinds.BOOL, ("b", "n")),
        "media": (kinds.INT64, ("b", "n")),
    }
    outputs = {
        "descriptor": (kinds.FLOAT, ("b", dim)),
        "norm": (kinds.FLOAT, ("b",)),
        "coreset_indices": (kinds.INT64, ("b", module.coreset_size)),
    }
    made = onnx.helper.make_graph(
        graph.nodes,
        "fpsset",
        [onnx.helper.make_tensor_value_info(name, *shapes[name]) for name in INPUTS[: 3 + media]],
        [onnx.helper.make_tensor_value_info(name, *form) for name, form in outputs.items()],
        graph.constants,
    )
    file = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.helper.set_model_props(file, {"fpsset.model": model.digest, "fpsset.name": model.name})
    onnx.checker.check_model(file, full_check=True)
    with replacing(pathlib.Path(path)) as beside:
        beside.write_bytes(file.SerializeToString())
