"""The faces of an exported ONNX graph: its inputs, and the picks among them."""

from typing import NamedTuple

import numpy as np

from fpsset.inference.onnx_graph import NEGATIVE, Graph
from fpsset.ops.quality import MIN_NORM

_NEVER = np.float32(-1e30)
Parameters = dict[str, "np.ndarray | Parameters"]  # as in the model's variables, float32


class Picks(NamedTuple):
    """The faces picked from each set, by the names of values of the graph."""

    indices: str  # [B, K] int64 slots, -1 where none is left
    valid: str  # [B, K] bool
    embeddings: str  # [B, K, D] unit rows, 0 where not valid
    norms: str  # [B, K], 0 where not valid


class Faces:
    """The inputs, with zeros on padding.

    Attributes:
      graph: the graph they are inputs of.
      mask: [B, N] bool.
      real: [B, N] float32, the mask.
      embeddings: [B, N, D].
      norms: [B, N], scaled, or 1 for models that ignore norms.
      media: [B, N] int64, or None.
    """

    def __init__(self, graph: Graph, norm_scale: float, ignores_norms: bool, media: bool):
        """Faces of the inputs 'embeddings', 'norms', 'mask', and 'media' if there are media."""
        self.graph, self.mask = graph, "mask"
        self.real = graph.cast("mask", "FLOAT")
        self.embeddings = graph.clean("mask", "embeddings", wide=True)
        self.norms = graph.op("Mul", graph.clean("mask", "norms"), np.float32(norm_scale))
        if ignores_norms:
            self.norms = self.real
        self.media = graph.op("Where", "mask", "media", np.array(0)) if media else None

    def pick(self, gamma: np.ndarray, size: int) -> Picks:
        """The picks, as `fpsset.farthest_point_sampling` makes them but for ties."""
        graph, available = self.graph, "mask"
        weight, score, distance = graph.op("Pow", self.norms, gamma), self.norms, None
        count = graph.op("Gather", graph.op("Shape", "mask"), np.array(1))
        slots = graph.lifted(graph.op("Range", np.array(0), count, np.array(1)), 0)
        picks = []
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
            norm = graph.lifted(graph.op("GatherND", self.norms, best, batch_dims=1), 1)
            picks.append(
                (
                    graph.op("Where", found, best, np.array(-1)),
                    found,
                    graph.lifted(graph.clean(found, center), 1),
                    graph.clean(found, norm),
                )
            )
        return Picks(*(graph.op("Concat", *values, axis=1) for values in zip(*picks, strict=True)))

    def summed(self, weights: str) -> str:
        """The sum of faces by weights: [B, R, N] -> [B, R, D]."""
        return self.graph.op("MatMul", weights, self.embeddings)

    def media_shares(self) -> str:
        """[B, N] the weight of each face if media count as one face each: 1 / the size of its medium."""
        size = self.graph.by_medium(self.real, self.media, self.mask)
        return self.graph.op("Div", self.real, self.graph.above_zero(size))

    def softmax_of_media(self, logs: str) -> str:
        """[B, N] weights that sum to 1 within each medium: the softmax of log weights there."""
        weights = softmax_parts(self.graph, logs, self.mask)
        total = self.graph.by_medium(weights, self.media, self.mask)
        return self.graph.op("Div", weights, self.graph.above_zero(total))


def log_norms(graph: Graph, norms: str) -> str:
    """Logarithms of the norms, of 1e-6 at least."""
    return graph.op("Log", graph.op("Max", norms, np.float32(MIN_NORM)))


def softmax_parts(graph: Graph, logs: str, mask: str) -> str:
    """exp(l - max l) over the last axis, 0 where masked: what a softmax divides by its sum."""
    most = graph.op("ReduceMax", graph.op("Where", mask, logs, _NEVER), np.array([-1]))
    # Masked before exp, which might give infinity there.
    return graph.clean(mask, graph.op("Exp", graph.op("Sub", graph.op("Where", mask, logs, most), most)))
