"""ONNX networks that normalise their embeddings give the norms from before that, where the graph tells."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fpsset.images.onnx_norms import is_normalised, probe_faces, scaled
from fpsset.images.recognisers import load_recogniser
from tests.images.test_recognisers import config_for, network

# Ways in which exporters write x / |x|: nodes of (type, inputs, output, attributes).
WAYS = {
    "lp": [("LpNormalization", ["out0"], "unit", {"axis": 1, "p": 2})],
    "torch": [
        ("ReduceL2", ["out0", "last"], "length", {"keepdims": 1}),
        ("Clip", ["length", "tiny"], "clipped", {}),
        ("Shape", ["out0"], "shape", {}),
        ("Expand", ["clipped", "shape"], "wide", {}),
        ("Div", ["out0", "wide"], "unit", {}),
    ],
    "keras": [
        ("Mul", ["out0", "out0"], "squares", {}),
        ("ReduceSum", ["squares", "last"], "sum", {"keepdims": 1}),
        ("Sqrt", ["sum"], "length", {}),
        ("Reciprocal", ["length"], "inverse", {}),
        ("Mul", ["inverse", "out0"], "scaled", {}),
        ("Identity", ["scaled"], "unit", {}),
    ],
}


def normalising(path, way: str, external: bool = False, **fields) -> np.ndarray:
    """Writes a network that normalises its embeddings; returns its weight."""
    weight = network(path, **fields)
    model = onnx.load(path)
    for kind, inputs, output, attributes in WAYS[way]:
        model.graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-12, np.float32), "tiny"))
    model.graph.output[0].name = "unit"
    options = {"save_as_external_data": True, "location": "x.data", "size_threshold": 56} if external else {}
    onnx.save(model, path, **options)
    return weight


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("external", [False, True])
def test_norms_are_those_before_the_last_node(tmp_path, way, external):
    weight = normalising(tmp_path / "x.onnx", way, external)
    faces = np.random.default_rng(1).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    faces[0] //= 4
    embeddings, norms = load_recogniser(config_for(tmp_path / "x.onnx"))(faces)
    want = ((faces[..., ::-1] - 127.0) / 128.0).mean((1, 2)) @ weight
    np.testing.assert_allclose(norms, np.linalg.norm(want, axis=1), rtol=1e-4)
    np.testing.assert_allclose(embeddings, want / norms[:, None], atol=1e-4)


def test_a_normalised_output_of_another_graph_keeps_its_norms(tmp_path):
    """Softmax-like divisions by something else than the length are not taken for norms."""
    normalising(tmp_path / "x.onnx", "lp")
    model = onnx.load(tmp_path / "x.onnx")
    model.graph.node.append(helper.make_node("Neg", ["unit"], ["minus"]))
    model.graph.output[0].name = "minus"
    onnx.save(model, tmp_path / "x.onnx")
    faces = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    np.testing.assert_allclose(load_recogniser(config_for(tmp_path / "x.onnx"))(faces)[1], 1, rtol=1e-5)


@pytest.mark.parametrize("size", [96, 160])
def test_faces_are_scaled_to_what_a_network_takes(tmp_path, size):
    weight = network(tmp_path / "x.onnx", size=size)
    faces = np.random.default_rng(1).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    embeddings, _ = load_recogniser(config_for(tmp_path / "x.onnx"))(faces)
    want = scaled((faces[..., ::-1] - 127.0) / 128.0, size).mean((1, 2)) @ weight
    np.testing.assert_allclose(embeddings, want / np.linalg.norm(want, axis=1)[:, None], atol=1e-5)


@pytest.mark.parametrize("side", [7, 96, 112, 160, 224])
def test_scaling_keeps_flat_images_and_ramps(side):
    np.testing.assert_allclose(scaled(np.full((1, 112, 112, 3), 5.0, np.float32), side), 5, rtol=1e-6)
    ramp = np.broadcast_to(np.arange(112, dtype=np.float32)[:, None, None], (1, 112, 112, 3))
    found = scaled(ramp, side)[0, :, 0, 0]
    centres = (np.arange(side) + 0.5) * 112 / side - 0.5
    inner = (centres > 16) & (centres < 95)
    np.testing.assert_allclose(found[inner], centres[inner], atol=0.2)


def test_probes_differ():
    lengths = np.linalg.norm(probe_faces().reshape(4, -1), axis=1)
    assert (np.diff(lengths) > 0).all() and not is_normalised(probe_faces().reshape(4, -1))
