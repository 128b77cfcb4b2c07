"""FaceCoresetNet as an ONNX graph."""

import math

import numpy as np

from fpsset.inference.onnx_faces import Faces, Parameters, Picks, log_norms, softmax_parts
from fpsset.inference.onnx_graph import Graph
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.ops.norm_encoding import EPSILON, waves_of_channels


def coreset_net(module: FaceCoresetNet, parameters: Parameters, faces: Faces, picks: Picks) -> str:
    """As `FaceCoresetNet`, in float32: [B, D], not normalised. Memory grows with N."""
    graph, op = faces.graph, faces.graph.op
    net = _Network(graph, parameters)
    core, core_quality = net.features(picks.embeddings, picks.norms)
    query = op("Add", core, net.encoding(picks.norms))
    valid = graph.cast(picks.valid, "FLOAT")
    mixed = net.attend("self_attention", query, query, query, valid, None)
    query = net.layer_norm("query_norm", op("Add", query, mixed))
    features, quality = net.features(faces.embeddings, faces.norms)
    keys = op("Add", features, net.encoding(faces.norms))
    weight = faces.media_shares() if module.by_media and faces.media is not None else faces.real
    seen = net.attend("set_attention", query, keys, features, weight, quality)
    refined = net.layer_norm("output_norm", op("Add", core, seen))
    if core_quality is not None:
        valid = softmax_parts(graph, core_quality, picks.valid)
    shares = op("Div", valid, graph.above_zero(graph.total(valid, keep=True)))
    mean = op("MatMul", graph.lifted(shares, 1), op("Add", core, refined))
    return op("Squeeze", mean, np.array([1]))


class _Network:
    def __init__(self, graph: Graph, parameters: Parameters):
        self._graph, self._parameters = graph, parameters

    def features(self, embeddings: str, norms: str) -> tuple[str, str | None]:
        """([B, n, D] n u, [B, n] the learned quality, or None)."""
        op, parameters = self._graph.op, self._parameters
        features = op("Mul", embeddings, self._graph.lifted(norms, -1))
        if "quality_direction" not in parameters:
            return features, None
        along = op("MatMul", features, parameters["quality_direction"])
        power = op("Mul", log_norms(self._graph, norms), parameters["quality_power"])
        return features, op("Add", along, power)

    def encoding(self, norms: str) -> str:
        """[B, n] -> [B, n, D]; see `fpsset.ops.norm_encoding`."""
        graph, op = self._graph, self._graph.op
        scale, bias = (self._parameters[f"norm_encoding_{part}"] for part in ("scale", "bias"))
        frequency, phase = waves_of_channels(len(scale))
        turns = op("Add", op("Mul", graph.lifted(norms, -1), frequency), phase)
        rest = op("Sub", turns, op("Round", turns))
        waves = op("Sin", op("Mul", rest, np.float32(2 * math.pi)))
        mean = op("ReduceMean", waves, np.array([-1]), keepdims=1)
        variance = op("Sub", np.float32(0.5 + EPSILON), op("Mul", mean, mean))
        centred = op("Div", op("Sub", waves, mean), op("Sqrt", variance))
        return op("Add", op("Mul", centred, scale), bias)

    def layer_norm(self, name: str, values: str) -> str:
        """A LayerNorm by the parameters of this name."""
        norm = self._parameters[name]
        return self._graph.op(
            "LayerNormalization", values, norm["scale"], norm["bias"], axis=-1, epsilon=EPSILON
        )

    def attend(self, name: str, query: str, keys: str, values: str, weight: str, quality: str | None) -> str:
        """Attention of queries [B, K, D] to n keys, absorbed as in `fpsset.ops.attention`: [B, K, D].

        Args:
          name: of the projections.
          query: [B, K, D].
          keys: [B, n, D], before projection.
          values: [B, n, D], before projection.
          weight: [B, n] as how many each key counts, 0 on padding.
          quality: [B, n] added to a key's logits, or None.
        """
        graph, op = self._graph, self._graph.op
        projections = self._parameters[name]
        dim, heads, depth = projections["query"].shape
        query = op("MatMul", query, projections["query"].reshape(dim, dim))
        query = op("Add", query, projections["query_bias"].reshape(dim))
        query = op("Reshape", query, np.array([0, 0, heads, depth]))
        query = op("Transpose", query, perm=[0, 2, 1, 3])
        # [B, H, K, d] x [H, d, D]
        absorbed = op("MatMul", query, np.moveaxis(projections["key"], 0, 2) / np.float32(math.sqrt(depth)))
        logits = op("MatMul", absorbed, graph.lifted(op("Transpose", keys, perm=[0, 2, 1]), 1))
        if quality is not None:
            logits = op("Add", logits, op("Unsqueeze", quality, np.array([1, 2])))
        weight = op("Unsqueeze", weight, np.array([1, 2]))
        parts = softmax_parts(graph, logits, op("Greater", weight, np.float32(0)))
        parts = op("Mul", parts, weight)
        total = graph.total(parts, keep=True)
        shares = op("Div", parts, graph.above_zero(total))
        mixed = op(
            "MatMul", op("MatMul", shares, graph.lifted(values, 1)), np.moveaxis(projections["value"], 1, 0)
        )
        bias = op("Mul", graph.total(shares, keep=True), projections["value_bias"][:, None])
        mixed = op("Transpose", op("Add", mixed, bias), perm=[0, 2, 1, 3])
        mixed = op("Reshape", mixed, np.array([0, 0, dim]))
        return op("Add", op("MatMul", mixed, projections["out"].reshape(dim, dim)), projections["out_bias"])
