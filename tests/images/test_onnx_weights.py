"""Weights of ONNX networks that tell nothing are made zero, and nothing else is."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fpsset.images.onnx_weights import negligible, without_negligible
from fpsset.images.recognisers import load_recogniser
from tests.images.test_recognisers import config_for, network


def spoil(path, external: bool, value: float = 1e-40) -> np.ndarray:
    """Gives the first channel of `network` weights that tell nothing; returns its weight before."""
    weight = network(path)
    model = onnx.load(path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
    weight[0] *= value
    tensor.CopyFrom(numpy_helper.from_array(weight, "weight"))
    # A smallest divisor is as small, but no factor.
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-40, np.float32), "tiny"))
    model.graph.node.append(helper.make_node("Add", ["out0", "tiny"], ["sum"]))
    model.graph.output[0].name = "sum"
    options = {"save_as_external_data": True, "location": "x.data", "size_threshold": 56} if external else {}
    onnx.save(model, path, **options)
    return weight


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("value", [1e-40, 1e-20])
def test_negligible_factors_become_zero(tmp_path, external, value):
    path = tmp_path / "x.onnx"
    weight = spoil(path, external, value)
    found = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in without_negligible(path).graph.initializer
    }
    assert not found["weight"][0].any() and weight[0].all()
    np.testing.assert_array_equal(found["weight"][1:], weight[1:])
    assert found["tiny"] == np.float32(1e-40)
    faces = np.random.default_rng(1).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    embeddings, norms = load_recogniser(config_for(path))(faces)
    want = ((faces[..., ::-1] - 127.0) / 128.0).mean((1, 2)) @ weight
    np.testing.assert_allclose(norms, np.linalg.norm(want, axis=1), rtol=1e-5)
    np.testing.assert_allclose(embeddings, want / norms[:, None], atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_a_network_without_them_stays_as_it_is(tmp_path, kind):
    network(tmp_path / "x.onnx", kind=kind)
    assert without_negligible(tmp_path / "x.onnx") is None


def test_small_weights_among_small_ones_are_kept():
    weights = np.array([1e-30, -1e-44, 0, 3e-16, -1e-14, 1], np.float32)
    np.testing.assert_array_equal(negligible(weights), [True, True, False, True, False, False])
    np.testing.assert_array_equal(negligible(weights[:1]), [False])
    assert negligible(np.zeros((0, 3), np.float32)).shape == (0, 3) and not negligible(np.zeros(2)).any()


def test_a_real_network_gives_the_same_embeddings(shared):
    import onnxruntime

    path = shared / "models/mobilefacenet_512.onnx"
    faces = np.random.default_rng(0).standard_normal((2, 3, 112, 112), dtype=np.float32)
    embeddings = []
    for source in (path, without_negligible(path).SerializeToString()):
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
        embeddings.append(session.run(None, {session.get_inputs()[0].name: faces})[0])
    np.testing.assert_allclose(embeddings[0], embeddings[1], rtol=0, atol=1e-6 * np.abs(embeddings[0]).max())
