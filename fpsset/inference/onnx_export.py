"""Exports fitted and plain models to ONNX, for runtimes without JAX."""

import os
import pathlib

import numpy as np

from fpsset.errors import InputError
from fpsset.inference.aggregator import SetAggregator
from fpsset.inference.onnx_graph import NEGATIVE, OPSET, Graph
from fpsset.models.pooling import PlainCoreset, WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.runtime.files import replacing

INPUTS = ("embeddings", "norms", "mask", "media")
_MIN_NORM = 1e-6  # as in `fpsset.ops.quality.log_norms`
_LEAST, _MOST, _COPY_WIDTH = 0.05, 0.95, 0.02  # as in `fpsset.ops.posterior`


def export_onnx(path: str | os.PathLike, model: SetAggregator, media: bool = True) -> None:
    """Writes a model as ONNX (opset 18), for any number and size of sets.

    The graph takes embeddings [B, N, D] float32 unit rows, norms [B, N] float32 as the backbone gave them,
    mask [B, N] bool, and with `media` also media [B, N] int64 in [0, N), equal for the faces of a medium. It
    returns descriptor [B, D] float32, norm [B] float32 and coreset_indices [B, K] int64. Among faces of equal
    distance it picks the first; the model's own rule is by content.

    Args:
      path: the file to write; replaced atomically.
      model: a fitted or plain model.
      media: whether media are an input, and count as in the model.

    Raises:
      InputError: the model is a FaceCoresetNet, or a plain one of another pooling than the norm-weighted
        mean; or onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError("ONNX export needs onnx; run pip install 'fpsset[export]'") from error
    weigh = {PosteriorPooling: _posterior, WhitenedMedia: _whitened, PlainCoreset: _plain}.get(
        type(model.module)
    )
    if weigh is None or (weigh is _plain and model.module.pooling != "norm_weighted"):
        raise InputError(f"{model.name}: is not exported to ONNX; give an OUT that ends in .stablehlo")
    graph = Graph()
    parameters = {name: np.asarray(value, np.float32) for name, value in model.variables["params"].items()}
    faces = _Faces(graph, model, media)
    picks, centers = faces.pick(parameters["gamma"], model.module.coreset_size)
    person = weigh(graph, faces, parameters, centers)
    length = graph.op("Sqrt", graph.total(graph.op("Mul", person, person), keep=True))
    graph.nodes += [
        onnx.helper.make_node("Div", [person, graph.above_zero(length)], ["descriptor"]),
        onnx.helper.make_node("Squeeze", [length, graph.constant(np.array([1]))], ["norm"]),
        onnx.helper.make_node("Identity", [picks], ["coreset_indices"]),
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
        "coreset_indices": (kinds.INT64, ("b", model.module.coreset_size)),
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


class _Faces:
    """The inputs, with zeros on padding.

    Attributes:
      mask: [B, N] bool.
      real: [B, N] float32, the mask.
      embeddings: [B, N, D].
      norms: [B, N], scaled, or 1 for models that ignore norms.
      media: [B, N] int64, or None.
    """

    def __init__(self, graph: Graph, model: SetAggregator, media: bool):
        self._graph, self.mask = graph, "mask"
        self.real = graph.cast("mask", "FLOAT")
        self.embeddings = graph.clean("mask", "embeddings", wide=True)
        self.norms = graph.op("Mul", graph.clean("mask", "norms"), np.float32(model.norm_scale))
        if model.module.ignores_norms:
            self.norms = self.real
        self.media = graph.op("Where", "mask", "media", np.array(0)) if media else None

    def pick(self, gamma: np.ndarray, size: int) -> tuple[str, str]:
        """([B, K] int64 slots, -1 where none is left; [B, K, D] their unit rows, 0 there)."""
        graph, available = self._graph, "mask"
        weight, score, distance = graph.op("Pow", self.norms, gamma), self.norms, None
        count = graph.op("Gather", graph.op("Shape", "mask"), np.array(1))
        slots = graph.lifted(graph.op("Range", np.array(0), count, np.array(1)), 0)
        picks, centers = [], []
        for _ in range(size):
            best = graph.op("ArgMax", graph.op("Where", available, score, NEGATIVE), axis=1, keepdims=1)
            found = graph.op("ReduceMax", graph.cast(available, "FLOAT"), np.array([1]), keepdims=1)
            found = graph.op("Greater", found, np.float32(0))
            center = graph.op("GatherND", self.embeddings, best, batch_dims=1)
            apart = graph.op("Sub", self.embeddings, graph.lifted(center, 1))
            apart = graph.op("Mul", graph.total(graph.op("Mul", apart, apart)), np.float32(0.25))
            apart = graph.op("Mul", weight, apart)
            distance = apart if distance is None else graph.op("Min", distance, apart)
            score = distance
            available = graph.op("And", available, graph.op("Not", graph.op("Equal", slots, best)))
            picks.append(graph.op("Where", found, best, np.array(-1)))
            norm = graph.op("GatherND", self.norms, best, batch_dims=1)
            counts = graph.op("And", found, graph.op("Greater", graph.lifted(norm, 1), np.float32(0)))
            centers.append(graph.lifted(graph.op("Where", counts, center, np.float32(0)), 1))
        return graph.op("Concat", *picks, axis=1), graph.op("Concat", *centers, axis=1)

    def logs(self) -> str:
        """[B, N] logarithms of the norms, of 1e-6 at least."""
        graph = self._graph
        return graph.op("Log", graph.op("Max", self.norms, np.float32(_MIN_NORM)))

    def summed(self, weights: str) -> str:
        """The sum of faces by weights: [B, R, N] -> [B, R, D]."""
        return self._graph.op("MatMul", weights, self.embeddings)

    def shares_of_media(self, logs: str) -> str:
        """[B, N] weights that sum to 1 within each medium: the softmax of log weights there."""
        graph = self._graph
        most = graph.op("ReduceMax", graph.op("Where", "mask", logs, np.float32(-1e30)), np.array([1]))
        weights = graph.clean("mask", graph.op("Exp", graph.op("Sub", logs, most)))
        total = graph.by_medium(weights, self.media, "mask")
        return graph.op("Div", weights, graph.above_zero(total))


def _plain(graph: Graph, faces: _Faces, parameters: dict, centers: str) -> str:
    mean = graph.op("Squeeze", faces.summed(graph.lifted(faces.norms, 1)), np.array([1]))
    count = graph.op("Max", graph.total(faces.real, keep=True), np.float32(1))
    return graph.op("Div", mean, count)


def _whitened(graph: Graph, faces: _Faces, parameters: dict, centers: str) -> str:
    logs = graph.op("Mul", faces.logs(), parameters["power"])
    if faces.media is None:
        most = graph.op("ReduceMax", graph.op("Where", "mask", logs, np.float32(-1e30)), np.array([1]))
        weights = graph.clean("mask", graph.op("Exp", graph.op("Sub", logs, most)))
    else:
        weights = faces.shares_of_media(logs)
    seen = graph.op("Squeeze", faces.summed(graph.lifted(weights, 1)), np.array([1]))
    mean = graph.op("Div", seen, graph.above_zero(graph.total(weights, keep=True)))
    return graph.op("MatMul", mean, parameters["whitening"])


def _posterior(graph: Graph, faces: _Faces, parameters: dict, centers: str) -> str:
    op, total = graph.op, graph.total
    along = op("MatMul", faces.embeddings, parameters["quality_direction"])
    along = op("Add", op("Mul", faces.norms, along), op("Mul", faces.logs(), parameters["quality_power"]))
    along = op("Add", along, parameters["quality_bias"])
    cosine = op("Max", op("Min", along, np.float32(_MOST)), np.float32(_LEAST))
    squared = op("Mul", cosine, cosine)
    precision = op("Div", squared, op("Sub", np.float32(1), squared))
    logs = op("Mul", op("Sub", cosine, np.float32(0.5)), parameters["sharpness"])
    if faces.media is not None:
        weights = faces.shares_of_media(logs)
        precisions = op("Mul", weights, precision)
        power = op(
            "Pow",
            graph.above_zero(graph.by_medium(precisions, faces.media, "mask")),
            parameters["media_power"],
        )
        rows, precisions = graph.lifted(op("Mul", weights, power), 1), graph.lifted(precisions, 1)
        shares = np.ones((1, 1), np.float32)
    else:
        nearness = op("MatMul", centers, op("Transpose", faces.embeddings, perm=[0, 2, 1]))
        alike = op(
            "Sigmoid", op("Mul", op("Sub", nearness, parameters["copy_cosine"]), np.float32(1 / _COPY_WIDTH))
        )
        nearest = op("ArgMax", nearness, axis=1, keepdims=1)
        count = op("Gather", op("Shape", nearness), np.array(1))
        places = op("Unsqueeze", op("Range", np.array(0), count, np.array(1)), np.array([0, 2]))
        copies = op("Where", op("Equal", places, nearest), alike, np.float32(0))
        rest = op("Sub", np.float32(1), total(copies, 1, keep=True))
        held = op("Concat", copies, rest, axis=1)
        rows = op("Mul", held, graph.lifted(graph.clean("mask", op("Exp", logs)), 1))
        precisions = op("Mul", rows, graph.lifted(precision, 1))
        counts = total(op("Mul", copies, graph.lifted(faces.real, 1)))
        each = op("Div", np.float32(1), op("Max", counts, np.float32(1)))
        shares = op("Concat", each, op("Add", op("Mul", total(rest), np.float32(0)), np.float32(1)), axis=1)
    whole = total(op("Mul", shares, total(rows)), keep=True)
    quality = total(op("Mul", shares, total(op("Mul", rows, graph.lifted(cosine, 1)))), keep=True)
    known = total(op("Mul", shares, total(precisions)), keep=True)
    seen = total(
        op(
            "Mul",
            graph.lifted(shares if isinstance(shares, str) else graph.constant(shares), -1),
            faces.summed(rows),
        ),
        1,
    )
    weight = graph.above_zero(whole)
    constant, slope = parameters["drift"][None, 0], parameters["drift"][None, 1]
    drift = op("Add", op("Mul", whole, constant), op("Mul", quality, slope))
    mean = op("Div", op("Sub", seen, drift), weight)
    if faces.media is None:
        known = op("Div", known, weight)
    spread = op("Div", parameters["noise"], op("Max", known, np.float32(1e-12)))
    gain = op("Div", parameters["person_variance"], op("Add", parameters["person_variance"], spread))
    return op("Mul", op("MatMul", mean, parameters["basis"]), gain)
