"""The closed-form initialisation is the pooling that it is documented to be."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import fpsset
from fpsset.config import base_config
from fpsset.data.feature_table import FeatureTable
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.ops.quality import face_quality
from fpsset.parallel.mesh import data_mesh, padded_classes, sharded_init
from fpsset.training.closed_form import quality_of
from fpsset.training.closed_form_init import ClosedForm, closed_form_init, closed_form_params
from fpsset.training.faces import faces_of_table
from fpsset.training.neighbourhood import Neighbourhood, inverse_root, neighbourhood, scatter
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import init_state
from tests.sets import make_set

DIM = 16
NET = fpsset.FaceCoresetNet(num_heads=2, gamma_init=0.35, quality=True)
SIZE = 9  # of sets
apply = jax.jit(NET.apply)


def whitening_of(near: Neighbourhood, shrinkage: float) -> np.ndarray:
    return inverse_root(scatter(near.faces.embeddings - near.cosine[:, None] * near.center), shrinkage)


@pytest.fixture(scope="module")
def table():
    return make_synthetic(60, 0, DIM)[0]


@pytest.fixture(scope="module")
def fresh():
    return jax.jit(NET.init)(jax.random.key(0), fpsset.pad_sets(*([part] for part in make_set(0, 4))))[
        "params"
    ]


def test_the_model_it_makes_is_the_pooling_it_says(table, fresh):
    params, start = jax.device_get(closed_form_params(fresh, table, ClosedForm())), ClosedForm()
    embeddings, norms = make_set(3, SIZE, dim=DIM)
    out = apply({"params": params}, fpsset.pad_sets([embeddings], [norms]))
    picks = np.asarray(out.coreset_indices[0])
    sampled = jax.jit(functools.partial(fpsset.farthest_point_sampling, size=3, gamma=0.35))
    np.testing.assert_array_equal(picks, sampled(embeddings, norms, np.ones(SIZE, bool)))
    faces = norms[:, None] * embeddings
    quality = faces @ params["quality_direction"] + params["quality_power"] * np.log(norms)
    centered = lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)  # noqa: E731
    seen = []
    for half in np.split(np.arange(DIM), 2):  # a head sees its half of the channels
        likeness = start.likeness * 2 * centered(faces[picks])[:, half] @ faces[:, half].T / DIM**0.5
        logits = likeness / table.norms.mean() + quality
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        seen.append(weights / weights.sum(-1, keepdims=True) @ faces[:, half])
    whitening = whitening_of(neighbourhood(table), start.shrinkage)
    refined = start.seen * centered(faces[picks] + start.seen * np.concatenate(seen, 1) @ whitening)
    shares = np.exp(quality[picks] - quality[picks].max())
    mean = shares / shares.sum() @ (faces[picks] + refined)
    np.testing.assert_allclose(out.descriptor[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(out.norm[0], np.linalg.norm(mean), rtol=1e-4)


def test_quality_tells_more_than_the_norm(table):
    """Poor synthetic faces share a direction of error, which their norms do not show."""
    direction, power, _ = quality_of(neighbourhood(table), ClosedForm().ridge)
    others, truth = make_synthetic(60, 1, DIM)
    found = jax.jit(face_quality)(others.embeddings * others.norms[:, None], others.norms, direction, power)
    by_norm, by_quality = (np.corrcoef(x, truth)[0, 1] for x in (np.log(others.norms), found))
    assert by_quality > by_norm + 0.05


def test_norms_that_are_all_alike_have_no_power(table):
    alike = dataclasses.replace(table, norms=np.full_like(table.norms, 3.0))
    direction, power, _ = quality_of(neighbourhood(alike), ClosedForm().ridge)
    assert abs(power) < 1e-3 and np.isfinite(direction).all() and np.abs(direction).max() > 0.01


def test_a_face_meets_the_media_that_are_not_its_own():
    """By hand: faces weigh by the cubed norm, and frames of the same seed are one medium."""
    x, y, z = np.eye(3, dtype=np.float32)
    table = FeatureTable(
        embeddings=np.stack([x, y, y, z]),
        norms=np.float32([1, 2, 1, 5]),
        subject=np.array([7, 7, 7, 8]),
        media=np.array([0, 1, 2, 3]),
    )
    near = neighbourhood(table)
    np.testing.assert_allclose(near.center, np.stack([y, (x + y) / 2**0.5, (x + 8 * y) / 65**0.5]), atol=1e-6)
    np.testing.assert_allclose(near.cosine, [0, 0.5**0.5, 8 / 65**0.5], atol=1e-6)
    near = neighbourhood(dataclasses.replace(table, seed=np.array([0, 1, 1, 2])))
    np.testing.assert_allclose(near.center, np.stack([y, x, x]), atol=1e-6)
    with pytest.raises(InputError, match=r"no person has two media.*model\.init=random"):
        neighbourhood(table.take(np.array([0, 3])))


def test_whitening_turns_down_what_differs_within_people():
    """Each person's two faces differ along one axis only; by hand, its factor is 1 / sqrt(0.5 + 0.5 D)."""
    rng = np.random.default_rng(0)
    person = np.pad(rng.standard_normal((50, 3)), ((0, 0), (0, 1)))
    person /= np.linalg.norm(person, axis=1, keepdims=True)
    faces = np.concatenate([person, person])
    faces[:, 3] = np.repeat([0.3, -0.3], 50)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    ones, ids = np.ones(100, np.float32), np.arange(100)
    near = neighbourhood(FeatureTable(faces.astype(np.float32), ones, ids % 50, ids))
    np.testing.assert_allclose(whitening_of(near, 1.0), np.eye(4), atol=1e-6)
    whitening = whitening_of(near, 0.5)
    np.testing.assert_allclose(whitening, whitening.T, atol=1e-6)
    assert whitening[3, 3] < 0.75 * np.diag(whitening)[:3].min()


@pytest.mark.parametrize("devices", [1, 8])
def test_classes_start_at_their_peoples_descriptors(devices):
    config, mesh = base_config(), data_mesh(jax.devices()[:devices])
    config.batch_size = 8
    table, _ = make_synthetic(
        60, 0, DIM, stills=(1, 5), clips=(0, 1), frames=(2, 3)
    )  # sets of one padded size
    faces = faces_of_table(config, table, mesh)
    head = fpsset.AdaFaceHead(faces.people, columns=padded_classes(faces.people, mesh))
    optimizer, root = make_optimizer(config.optimizer, head_trained=False), jax.random.key(0)
    state = sharded_init(lambda: init_state(NET, head, optimizer, root, DIM), mesh)
    started = closed_form_init(state, NET, faces, config, ClosedForm())
    kernel = started.params["head"]["kernel"]
    assert kernel.sharding == state.params["head"]["kernel"].sharding
    params = started.params["aggregator"]
    people, counts = np.unique(faces.sample().subject, return_counts=True)
    mine = faces.sample().take(faces.sample().subject == people[5])
    own = fpsset.pad_sets([mine.embeddings], [mine.norms], size=SIZE)
    out = apply({"params": jax.device_get(params)}, own)
    np.testing.assert_allclose(np.asarray(kernel)[:, 5], out.descriptor[0], atol=1e-5)
    assert not np.asarray(kernel)[:, len(people) :].any() and counts[5] == len(mine)
    config.model.init = config.head.init = "random"
    assert closed_form_init(state, NET, faces, config, ClosedForm()) is state
