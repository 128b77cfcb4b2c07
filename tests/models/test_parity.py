"""Agreement with golden values of the official PyTorch code."""

import functools
import importlib.util

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fpsset
from fpsset.config import published_config
from fpsset.training.modules import make_head
from fpsset.weights.torch_aggregator import aggregator_params, head_variables

SIZES = [1, 2, 3, 4, 7, 20, 64, 333]
SLOTS = 335  # of every set


@pytest.fixture(scope="module")
def state(shared):
    """A state dict in the official layout, drawn by the rule that the golden files were made with."""
    spec = importlib.util.spec_from_file_location("weights_rule", shared / "parity/weights_rule.py")
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    return rule.state_dict("ir_18", ("aggregate_model.", "head."))


@pytest.fixture(scope="module")
def train_case(shared):
    with np.load(shared / "parity/aggregator_train.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def infer(state):
    variables, apply = {"params": aggregator_params(state)}, jax.jit(fpsset.FaceCoresetNet().apply)
    return lambda sets: jax.device_get(apply(variables, sets))


@pytest.mark.parametrize("size", SIZES)
def test_inference(shared, infer, size):
    with np.load(shared / "parity/aggregator_eval.npz") as file:
        case = {key.split("/")[1]: file[key] for key in file.files if key.startswith(f"n{size}/")}
    # The slots that hold no face are NaN.
    embeddings = np.full((1, SLOTS, 512), np.nan, np.float32)
    embeddings[0, :size] = case["embeddings"]
    norms = np.full((1, SLOTS), np.nan, np.float32)
    norms[0, :size] = case["norms"]
    out = infer(fpsset.FaceSet(embeddings, norms, np.arange(SLOTS)[None] < size))
    picks = out.coreset_indices[0]
    np.testing.assert_array_equal(picks[picks >= 0], case["selected"])
    assert (picks >= 0).sum() == min(3, size)
    np.testing.assert_allclose(out.descriptor[0], case["descriptor"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(out.norm[0], case["descriptor_norm"], rtol=1e-4)


def _forward(params, embeddings, norms, case, stats):
    face_set = fpsset.FaceSet(embeddings, norms, jnp.ones(norms.shape, bool))
    out = fpsset.FaceCoresetNet(dropout_rate=0.0).apply(
        {"params": params["aggregator"]},
        face_set,
        train=True,
        noise=jnp.moveaxis(case["gumbel_noise"], 0, 1),
    )
    logits, updated = fpsset.AdaFaceHead(num_classes=10).apply(
        {"params": params["head"], "batch_stats": stats},
        out.descriptor,
        out.norm,
        case["labels"],
        train=True,
        mutable=["batch_stats"],
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, case["labels"]).mean()
    return loss, (out, logits, updated["batch_stats"])


@pytest.fixture(scope="module")
def training(train_case, state):
    head = head_variables(state)
    params = {"aggregator": aggregator_params(state), "head": head["params"]}
    # The official head starts its running statistics at 20 and 100.
    stats = {"mean": np.float32(20.0), "std": np.float32(100.0)}
    step = jax.jit(jax.value_and_grad(_forward, argnums=(0, 1, 2), has_aux=True))
    return jax.device_get(step(params, train_case["embeddings"], train_case["norms"], train_case, stats))


def test_training_forward(train_case, training):
    (loss, (out, logits, stats)), _ = training
    np.testing.assert_allclose(out.descriptor, train_case["descriptor"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(out.norm, train_case["descriptor_norm"], rtol=1e-4)
    np.testing.assert_allclose(out.core_features, train_case["core_features"], atol=1e-4)
    np.testing.assert_allclose(logits, train_case["logits"], atol=2e-3)
    np.testing.assert_allclose(loss, train_case["loss"], rtol=1e-4)
    np.testing.assert_allclose(stats["mean"], train_case["head_batch_mean_after"][0], rtol=1e-5)
    np.testing.assert_allclose(stats["std"], train_case["head_batch_std_after"][0], rtol=1e-5)


def test_every_gpu_of_the_published_recipe_has_the_official_logits(train_case, training, state):
    """Two GPUs that both get the golden batch: its logits twice, and its running statistics."""
    (_, (out, _, _)), _ = training
    both = [np.tile(array, (2,) + (1,) * (array.ndim - 1)) for array in (out.descriptor, out.norm)]
    labels, head = np.tile(train_case["labels"], 2), head_variables(state)
    config = published_config()
    config.recipe.group = len(labels) // 2
    variables = {"params": head["params"], "batch_stats": {"mean": np.float32(20), "std": np.float32(100)}}
    apply = functools.partial(make_head(config, 10, 10).apply, train=True, mutable=["batch_stats"])
    logits, updated = jax.jit(apply)(variables, *both, labels)
    np.testing.assert_allclose(logits, np.tile(train_case["logits"], (2, 1)), atol=2e-3)
    found = updated["batch_stats"]
    np.testing.assert_allclose(found["mean"], train_case["head_batch_mean_after"][0], rtol=1e-5)
    np.testing.assert_allclose(found["std"], train_case["head_batch_std_after"][0], rtol=1e-5)


def _official_layout(grads) -> dict[str, np.ndarray]:
    """Gradients of the aggregator's parameters, with the official keys and in PyTorch's layout."""
    out = {
        "gamma": grads["gamma"],
        "pos_trans_norm.weight": grads["norm_encoding_scale"],
        "pos_trans_norm.bias": grads["norm_encoding_bias"],
    }
    for ours, theirs in (("query_norm", "norm1"), ("output_norm", "norm2")):
        out[f"decoder_layer1.{theirs}.weight"] = grads[ours]["scale"]
        out[f"decoder_layer1.{theirs}.bias"] = grads[ours]["bias"]
    for ours, theirs in (("self_attention", "self_attn1"), ("set_attention", "multihead_attn1")):
        g = {name: np.asarray(value) for name, value in grads[ours].items()}
        joint = [g[name].reshape(512, 512).T for name in ("query", "key", "value")]
        out[f"decoder_layer1.{theirs}.in_proj_weight"] = np.concatenate(joint)
        biases = [g["query_bias"].ravel(), np.zeros(512, np.float32), g["value_bias"].ravel()]
        out[f"decoder_layer1.{theirs}.in_proj_bias"] = np.concatenate(biases)
        out[f"decoder_layer1.{theirs}.out_proj.weight"] = g["out"].reshape(512, 512).T
        out[f"decoder_layer1.{theirs}.out_proj.bias"] = g["out_bias"]
    return {f"aggregate_model.{key}": np.asarray(value) for key, value in out.items()}


def test_training_gradients(train_case, training):
    _, (params, embeddings, norms) = training
    whole = {"embeddings": embeddings, "norms": norms, "head.kernel": params["head"]["kernel"]}
    for name, value in whole.items():
        golden = train_case[f"grad/{name}"]
        error = np.linalg.norm(np.asarray(value) - golden) / np.linalg.norm(golden)
        assert error < 1e-3, f"{name}: {error}"
    ours = _official_layout(params["aggregator"])
    stored = [key.split("/")[1] for key in train_case if key.startswith("grad_l2/")]
    assert set(stored) == set(ours)
    for name in stored:
        length = train_case[f"grad_l2/{name}"]
        first = train_case[f"grad_first/{name}"]
        assert abs(np.linalg.norm(ours[name]) / length - 1) < 1e-3, name
        assert np.linalg.norm(ours[name].ravel()[: len(first)] - first) / length < 1e-3, name


def test_head_variables_fit(state):
    variables = head_variables(state)
    batch = np.ones((2, 512), np.float32), np.ones(2, np.float32), np.zeros(2, int)
    fresh = jax.eval_shape(fpsset.AdaFaceHead(num_classes=10).init, jax.random.key(0), *batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.tree.map(np.asarray, variables), fresh)
