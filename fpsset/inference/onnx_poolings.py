"""Plain, whitened and posterior pooling as ONNX graphs."""

import numpy as np

from fpsset.inference.onnx_faces import Faces, Parameters, Picks, log_norms, softmax_parts
from fpsset.models.pooling import PlainCoreset, WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.ops.posterior import COPY_WIDTH, LEAST_COSINE, MOST_COSINE


def plain(module: PlainCoreset, parameters: Parameters, faces: Faces, picks: Picks) -> str:
    """As `PlainCoreset`: [B, D], not normalised."""
    graph = faces.graph
    if module.pooling == "fps":
        count = graph.total(graph.cast(picks.valid, "FLOAT"), keep=True)
        weights, rows = graph.lifted(picks.norms, 1), picks.embeddings
    else:
        by_media = module.pooling == "media_mean" and faces.media is not None
        shares = faces.media_shares() if by_media else faces.real
        count = graph.total(shares, keep=True)
        weights = shares if module.pooling == "mean" else graph.op("Mul", faces.norms, shares)
        weights, rows = graph.lifted(weights, 1), faces.embeddings
    mean = graph.op("Squeeze", graph.op("MatMul", weights, rows), np.array([1]))
    return graph.op("Div", mean, graph.op("Max", count, np.float32(1)))


def whitened(module: WhitenedMedia, parameters: Parameters, faces: Faces, picks: Picks) -> str:
    """As `WhitenedMedia`: [B, D], not normalised."""
    graph = faces.graph
    logs = graph.op("Mul", log_norms(graph, faces.norms), parameters["power"])
    if faces.media is None:
        weights = softmax_parts(graph, logs, faces.mask)
    else:
        weights = faces.softmax_of_media(logs)
    seen = graph.op("Squeeze", faces.summed(graph.lifted(weights, 1)), np.array([1]))
    mean = graph.op("Div", seen, graph.above_zero(graph.total(weights, keep=True)))
    return graph.op("MatMul", mean, parameters["whitening"])


def posterior(module: PosteriorPooling, parameters: Parameters, faces: Faces, picks: Picks) -> str:
    """As `PosteriorPooling`: [B, D], not normalised."""
    graph = faces.graph
    op, total = graph.op, graph.total
    along = op("MatMul", faces.embeddings, parameters["quality_direction"])
    along = op(
        "Add",
        op("Mul", faces.norms, along),
        op("Mul", log_norms(graph, faces.norms), parameters["quality_power"]),
    )
    along = op("Add", along, parameters["quality_bias"])
    cosine = op("Max", op("Min", along, np.float32(MOST_COSINE)), np.float32(LEAST_COSINE))
    squared = op("Mul", cosine, cosine)
    precision = op("Div", squared, op("Sub", np.float32(1), squared))
    logs = op("Mul", op("Sub", cosine, np.float32(0.5)), parameters["sharpness"])
    if faces.media is not None:
        weights = faces.softmax_of_media(logs)
        precisions = op("Mul", weights, precision)
        power = op(
            "Pow",
            graph.above_zero(graph.by_medium(precisions, faces.media, "mask")),
            parameters["media_power"],
        )
        rows, precisions = graph.lifted(op("Mul", weights, power), 1), graph.lifted(precisions, 1)
        shares = np.ones((1, 1), np.float32)
    else:
        has_direction = op("Greater", picks.norms, np.float32(0))
        centers = graph.clean(has_direction, picks.embeddings, wide=True)
        nearness = op("MatMul", centers, op("Transpose", faces.embeddings, perm=[0, 2, 1]))
        alike = op(
            "Sigmoid", op("Mul", op("Sub", nearness, parameters["copy_cosine"]), np.float32(1 / COPY_WIDTH))
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
