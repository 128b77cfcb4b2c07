"""The pass over small sets in one kernel, interpreted on the CPU, against the model's call."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fpsset
from fpsset.face_set import RaggedSets
from fpsset.inference import descriptors
from fpsset.inference.kernels import check_kernel
from fpsset.models.pooling import baselines
from fpsset.models.posterior import PosteriorPooling
from fpsset.models.set_model import prepare_kernel
from fpsset.ops import fused_pass
from tests.sets import TIED, make_set, random_coreset_net, with_padding

NOT_FINITE = ("embedding", "norm", "infinite norm")


def _batch(slots: int, dim: int) -> tuple[fpsset.FaceSet, np.ndarray]:
    """Sets of every kind with NaN in padded slots, and which of them are finite."""
    sizes = (1, 2, slots - 1, slots)
    kinds = ("random", "some_zero_norms", *TIED)
    made = [make_set(i, size, kind, dim) for i, kind in enumerate(kinds) for size in sizes]
    embeddings, norms = make_set(90, slots - 2, dim=dim)
    made.append((embeddings[:0], norms[:0]))
    for bad in NOT_FINITE:
        faces, lengths = embeddings.copy(), norms.copy()
        if bad == "embedding":
            faces[1, 3] = np.nan
        else:
            lengths[2] = np.nan if bad == "norm" else np.inf
        made.append((faces, lengths))
    padded = [with_padding(*one, seed, slots)[:3] for seed, one in enumerate(made)]
    finite = np.arange(len(made)) < len(made) - len(NOT_FINITE)
    return fpsset.FaceSet(*map(np.stack, zip(*padded, strict=True))), finite


@functools.cache
def _variables(net: fpsset.FaceCoresetNet, dim: int) -> dict:
    return {"params": random_coreset_net(net, dim)}


@functools.cache
def _apply(net: fpsset.FaceCoresetNet):
    return jax.jit(net.apply)


def _call(net: fpsset.FaceCoresetNet, sets: fpsset.FaceSet):
    """The model's call, in NumPy."""
    return jax.device_get(_apply(net)(_variables(net, sets.embeddings.shape[-1]), sets))


def _both(net: fpsset.FaceCoresetNet, sets: fpsset.FaceSet):
    """The model's call and the kernel, in NumPy."""

    @jax.jit
    def kernel(variables, sets):
        prepared = prepare_kernel(net, variables)
        return net.apply(variables, sets, prepared, method="in_one_kernel", interpret=True)

    return _call(net, sets), jax.device_get(kernel(_variables(net, sets.embeddings.shape[-1]), sets))


@pytest.mark.parametrize(
    ("slots", "heads", "size", "dim", "quality"),
    [(8, 2, 3, 128, False), (32, 1, 2, 128, True), (128, 4, 1, 128, False), (256, 1, 2, 256, True)],
)
def test_the_kernel_computes_the_call(slots, heads, size, dim, quality):
    """Picks to the slot, with ties and padding, and no set spoils another of its row or block."""
    sets, finite = _batch(slots, dim)
    net = fpsset.FaceCoresetNet(size, heads, quality=quality, by_media=quality)
    media_size = np.resize(np.float32([1, 2, 5]), sets.mask.shape)
    wanted, found = _both(net, sets.replace(media_size=media_size))
    np.testing.assert_array_equal(found.coreset_indices[finite], wanted.coreset_indices[finite])
    np.testing.assert_array_equal(found.coreset_mask[finite], wanted.coreset_mask[finite])
    np.testing.assert_array_equal(found.core_features[finite], wanted.core_features[finite])
    np.testing.assert_allclose(found.descriptor[finite], wanted.descriptor[finite], atol=2e-5)
    np.testing.assert_allclose(found.norm[finite], wanted.norm[finite], rtol=2e-5)
    assert np.isnan(found.descriptor[~finite]).all()


def test_the_kernel_rounds_as_asked():
    embeddings, norms = (
        np.stack(made) for made in zip(*(make_set(i, 8, dim=128) for i in (0, 1)), strict=True)
    )
    sets = fpsset.FaceSet(embeddings, norms, np.ones((2, 8), bool))
    exact = _call(fpsset.FaceCoresetNet(2, 2), sets)
    wanted, found = _both(fpsset.FaceCoresetNet(2, 2, dtype=jnp.bfloat16), sets)
    apart = np.abs(found.descriptor - exact.descriptor).max()
    assert 1e-5 < apart < 1e-2
    np.testing.assert_array_equal(found.coreset_indices, wanted.coreset_indices)


def test_only_models_and_sets_that_fit_are_given_to_the_kernel():
    struct = jax.ShapeDtypeStruct

    def sets(*shape, dim=128, dtype=jnp.float32):
        return fpsset.FaceSet(struct((*shape, dim), dtype), struct(shape, jnp.float32), struct(shape, bool))

    net = fpsset.FaceCoresetNet(num_heads=2)
    assert net.has_kernel(sets(5, 8))
    assert net.clone(num_heads=1, quality=True).has_kernel(sets(5, 512, dim=512))
    assert not net.clone(num_heads=40).has_kernel(sets(5, 8))
    assert not any(
        map(
            net.has_kernel,
            (sets(8), sets(2, 1, 8), sets(5, 1024), sets(5, 12), sets(5, 8, dim=96), sets(5, 8, dim=1024)),
        )
    )
    assert not net.clone(num_heads=2).has_kernel(sets(5, 8, dim=384))  # 192 channels a head
    assert not net.has_kernel(sets(5, 8, dtype=jnp.bfloat16))
    assert not net.has_kernel(sets(5, 8).replace(multiplicity=struct((5, 8), jnp.float32)))
    assert not PosteriorPooling().has_kernel(sets(5, 8))


def test_the_check_of_a_device_compares_both(monkeypatch):
    check = functools.partial(check_kernel, slots=(8,), dim=128, heads=2, interpret=True)
    found = check()
    assert found.agrees and found.same_picks and 0 < found.largest_difference < 2e-5
    monkeypatch.setattr(fused_pass, "_layer_norm", lambda rows, scale, bias: 0 * rows)
    found = check()
    assert found.same_picks and not found.agrees


def test_elsewhere_the_call_is_unchanged(monkeypatch):
    """Where the kernel is asked for and the platform has none, beside a model without one."""
    monkeypatch.setattr(descriptors, "has_kernels", lambda: True)
    net, mean = fpsset.FaceCoresetNet(2, 2), baselines()["mean"]
    embeddings, norms = make_set(0, 12, dim=128)
    sets = RaggedSets(embeddings, norms, None, np.arange(12), np.array([0, 5, 12]))
    found = descriptors.describe({"net": net, "mean": mean}, {"net": _variables(net, 128)}, sets)
    wanted = _call(net, sets.pad(np.arange(2), 2, 8))
    np.testing.assert_array_equal(found["net"].vectors, wanted.descriptor)
    assert found["mean"].vectors.shape == (2, 128)
