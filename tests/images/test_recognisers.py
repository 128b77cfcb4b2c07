"""ONNX recognisers of every supported form agree with NumPy, and others are refused."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fpsset.config import extraction_config
from fpsset.errors import InputError
from fpsset.images.recognisers import load_recogniser

DIM = 5


def network(
    path, batch="n", channels_first=True, kind=TensorProto.FLOAT, size=112, outputs=1, norms=False, said=None
):
    """Writes a network that projects the mean of each channel; returns its weight."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    shape = [batch, 3, size, size] if channels_first else [batch, size, size, 3]
    weight = np.random.default_rng(0).standard_normal((3, DIM)).astype(dtype)
    axes = [2, 3] if channels_first else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        *(helper.make_node("MatMul", ["mean", "weight"], [f"out{i}"]) for i in range(outputs)),
    ]
    ports = [helper.make_tensor_value_info(f"out{i}", kind, [said or batch, DIM]) for i in range(outputs)]
    if norms:  # twice the length, to tell it from that of the embeddings
        nodes += [
            helper.make_node("ReduceL2", ["out0", "last"], ["length"], keepdims=1),
            helper.make_node("Add", ["length", "length"], ["norm"]),
        ]
        ports.append(helper.make_tensor_value_info("norm", kind, [batch, 1]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", kind, shape)],
        ports,
        [
            numpy_helper.from_array(np.array([1], np.int64), "last"),
            numpy_helper.from_array(np.array(axes, np.int64), "axes"),
            numpy_helper.from_array(weight, "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return weight.astype(np.float32)


def config_for(path, **fields):
    config = extraction_config()
    config.update(weights=str(path), color_order="bgr", mean=127.0, std=128.0)
    config.update(fields)
    return config


@pytest.mark.parametrize(
    "batch, channels_first, kind",
    [
        ("n", True, TensorProto.FLOAT),
        ("n", False, TensorProto.FLOAT),
        (4, True, TensorProto.FLOAT),
        (1, False, TensorProto.FLOAT),
        (4, True, TensorProto.FLOAT16),
    ],
)
@pytest.mark.parametrize("count", [1, 4, 9])
def test_onnx_networks_agree_with_numpy(tmp_path, batch, channels_first, kind, count):
    weight = network(tmp_path / "x.onnx", batch, channels_first, kind)
    faces = np.random.default_rng(1).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
    faces[..., 0] //= 2
    recogniser = load_recogniser(config_for(tmp_path / "x.onnx"))
    tolerance = 1e-5 if kind == TensorProto.FLOAT else 2e-2
    for swap, order in ((False, [2, 1, 0]), (True, [0, 1, 2])):
        want = ((faces[..., order] - 127.0) / 128.0).mean((1, 2)) @ weight
        embeddings, norms = recogniser(faces, swap)
        lengths = np.linalg.norm(want, axis=1)
        np.testing.assert_allclose(norms, lengths, rtol=tolerance)
        np.testing.assert_allclose(embeddings, want / lengths[:, None], atol=tolerance)


def test_the_digest_covers_the_colour_order_and_normalisation(tmp_path):
    network(tmp_path / "x.onnx")
    stated = [{}, {"color_order": "rgb"}, {"mean": 127.5}, {"std": 127.5}]
    assert len({load_recogniser(config_for(tmp_path / "x.onnx", **s)).card.digest for s in stated}) == 4


@pytest.mark.parametrize("fields", [{"norms": True}, {"size": "side"}, {"said": 1}])
def test_norms_free_sides_and_wrong_batches_of_outputs(tmp_path, capfd, fields):
    weight = network(tmp_path / "x.onnx", **fields)
    faces = np.random.default_rng(1).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    embeddings, norms = load_recogniser(config_for(tmp_path / "x.onnx"))(faces)
    want = ((faces[..., ::-1] - 127.0) / 128.0).mean((1, 2)) @ weight
    lengths = np.linalg.norm(want, axis=1)
    np.testing.assert_allclose(norms, lengths * (2 if "norms" in fields else 1), rtol=1e-5)
    np.testing.assert_allclose(embeddings, want / lengths[:, None], atol=1e-5)
    assert capfd.readouterr().err == ""


def test_the_digest_covers_values_in_other_files(tmp_path):
    digests = []
    for seed in (0, 1, 0):
        network(tmp_path / "x.onnx")
        model = onnx.load(tmp_path / "x.onnx")
        (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
        values = np.random.default_rng(seed).standard_normal((3, DIM)).astype(np.float32)
        weight.CopyFrom(numpy_helper.from_array(values, "weight"))
        name = "values of the network.data"
        (tmp_path / name).unlink(missing_ok=True)
        onnx.save(model, tmp_path / "x.onnx", save_as_external_data=True, location=name, size_threshold=80)
        assert (tmp_path / name).is_file()
        digests.append(load_recogniser(config_for(tmp_path / "x.onnx")).card.digest)
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize(
    "fields, problem",
    [
        ({"size": 16}, "give a recogniser of square faces"),
        ({"outputs": 2}, "give a recogniser of square faces"),
        ({"outputs": 3, "norms": True}, "give a recogniser of square faces"),
        ({"kind": TensorProto.DOUBLE}, "takes float images"),
    ],
)
def test_a_network_of_another_form_is_refused(tmp_path, fields, problem):
    network(tmp_path / "x.onnx", **fields)
    with pytest.raises(InputError, match=problem):
        load_recogniser(config_for(tmp_path / "x.onnx"))


def test_a_few_faces_of_a_batch_are_embedded_alone(tmp_path):
    """An ONNX network takes any number; one that is compiled for every other gets whole batches."""
    network(tmp_path / "x.onnx")
    recogniser = load_recogniser(config_for(tmp_path / "x.onnx"))
    assert [recogniser.rows(count, 24) for count in (1, 2, 3, 16, 17, 24)] == [1, 2, 4, 16, 24, 24]
    compiled = dataclasses.replace(recogniser, any_number=False)
    assert compiled.rows(1, 24) == compiled.rows(24, 24) == 24
