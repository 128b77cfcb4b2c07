"""Training from images: how clips become face sets, and which images are used."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import fpsset
from fpsset.config import base_config
from fpsset.errors import InputError
from fpsset.images.augmentation import Style, augment
from fpsset.images.image_pipeline import ImageBatch
from fpsset.models.iresnet import fold
from fpsset.parallel.mesh import data_mesh, put_batch
from fpsset.training.clips import clips_to_sets
from fpsset.training.images import faces_of_images
from fpsset.training.step import stream_key
from fpsset.weights.cards import BackboneCard
from tests.image_source import make_source
from tests.torch_files import TINY, random_variables

CARD = BackboneCard("tiny", "bgr", 127.5, 127.5, "abcd")
ROOT = jax.random.key(7)
MESH = data_mesh(jax.devices()[:1])


@pytest.fixture(scope="module")
def variables():
    return jax.device_put(fold(random_variables(TINY)))


@pytest.fixture(scope="module")
def batch():
    images = make_source(2, 3).pixels.reshape(2, 3, 112, 112, 3)
    clip = np.array([[0, 0, 1], [0, 1, 2]], np.int32)
    medium = np.array([[0, 0, 2], [0, 1, 2]], np.int32)
    mask = np.array([[1, 1, 1], [1, 0, 0]], bool)
    return ImageBatch(images, clip, medium, mask, np.array([1, 0], np.int32))


def sets_of(variables, batch, step: int, norm_scale: float = 1.0, at_once: int = 3, mesh=MESH):
    """Embeds a batch as training does, by the programs of `faces_of_images`."""
    return clips_to_sets(
        jax.device_put(variables, NamedSharding(mesh, PartitionSpec())),
        put_batch(batch, mesh),
        step,
        root=ROOT,
        norm_scale=norm_scale,
        card=CARD,
        dtype=np.dtype(np.float32),
        at_once=at_once,
        mesh=mesh,
        style=Style(),
    )


def test_every_frame_is_its_augmented_image_embedded(variables, batch):
    out = sets_of(variables, batch, 4, norm_scale=2.0)
    np.testing.assert_array_equal(out.labels, batch.labels)
    key, (b, n) = stream_key(ROOT, "augment", 4), np.nonzero(batch.mask)
    clip = batch.clip[b, n]
    frames = np.asarray(jax.jit(augment)(key, batch.images[b, clip], 3 * b + clip, 3 * b + n))
    embeddings, norms = fpsset.embed(variables, (frames[..., ::-1] * 255 - 127.5) / 127.5)
    found = jax.device_get(out.face_set)
    np.testing.assert_allclose(found.embeddings[b, n], embeddings, atol=2e-5)
    np.testing.assert_allclose(found.norms[b, n], 2 * np.asarray(norms), rtol=1e-4)


def test_padding_is_zero_and_reaches_nothing(variables, batch):
    out = sets_of(variables, batch, 0)
    assert (np.asarray(out.face_set.embeddings)[~batch.mask] == 0).all()
    assert (np.asarray(out.face_set.norms)[~batch.mask] == 0).all()
    images = batch.images.copy()
    images[0, 2], images[1, 1:] = 255, 255
    clip = np.where(batch.mask, batch.clip, 2)
    other = sets_of(variables, batch._replace(images=images, clip=clip), 0)
    jax.tree.map(np.testing.assert_array_equal, out, other)
    empty = sets_of(variables, batch._replace(mask=np.zeros((2, 3), bool)), 0)
    assert not np.asarray(empty.face_set.embeddings).any()


def test_steps_differ_and_share_a_compilation(variables, batch):
    steps = [sets_of(variables, batch, step) for step in (0, 0, 1)]
    compiled = clips_to_sets._cache_size()
    jax.tree.map(np.testing.assert_array_equal, steps[0], steps[1])
    first, second = (np.asarray(steps[i].face_set.embeddings)[batch.mask] for i in (0, 2))
    assert (np.abs(first - second).max(1) > 1e-3).all()
    sets_of(variables, batch, 2)
    assert clips_to_sets._cache_size() == compiled


def test_devices_share_a_batch_and_draw_as_one_does_in_groups_of_any_size(variables, batch):
    mesh = data_mesh(jax.devices()[:2])
    whole = sets_of(variables, batch, 4, norm_scale=2.0)
    shared = sets_of(variables, batch, 4, norm_scale=2.0, at_once=64, mesh=mesh)
    assert shared.face_set.norms.sharding.shard_shape((2, 3)) == (1, 3)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(shared), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_no_gradient_reaches_the_backbone(variables, batch):
    def total(variables):
        return clips_to_sets(variables, batch, 0, ROOT, 1.0, CARD, at_once=3).face_set.embeddings.sum()

    gradients = jax.jit(jax.grad(total))(variables)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))


def config_for(**fields):
    config = base_config()
    config.update(batch_size=2)
    config.data.update(max_size=3, holdout=0.4, **fields)
    config.backbone.batch_size = 3
    return config


def test_held_out_people_are_embedded_as_they_are_and_never_trained_on(variables, capsys):
    source = make_source(6, 2)
    source.encoded[3] = b"no image"
    faces = faces_of_images(config_for(), source, CARD, variables, MESH)
    err = capsys.readouterr().err
    assert "unreadable: image 3 of test: not a whole image" in err
    assert "1 of 12 images of test cannot be read and are left out" in err
    held = np.unique(faces.held_out.subject)
    assert len(held) == 2 and faces.people == 4 and faces.dim == 512 and faces.backbone == "abcd"
    rows = faces.held_out.media
    pixels = (source.pixels[rows][..., ::-1] - np.float32(127.5)) / np.float32(127.5)
    embeddings, norms = fpsset.embed(variables, pixels)
    assert (faces.held_out.embeddings * embeddings).sum(1).min() > 0.9999
    np.testing.assert_allclose(faces.held_out.norms, faces.norm_scale * norms, rtol=1e-4)
    assert faces.held_out.norms.mean() == pytest.approx(20)
    seen = {source.pixels[row].tobytes() for row in rows}
    for _ in range(6):
        batch = next(faces.batches)
        for images, clip, mask in zip(batch.images, batch.clip, batch.mask, strict=True):
            assert not seen & {image.tobytes() for image in images[: clip[mask].max() + 1]}
    sets = faces.to_sets(put_batch(batch, MESH), 6)
    assert sets.face_set.embeddings.shape == (2, 3, 512)
    fewer = faces_of_images(config_for(norm_mean=0.0), make_source(4, 1), CARD, variables, MESH)
    assert fewer.norm_scale == 1 and fewer.fingerprint != faces.fingerprint


@pytest.mark.parametrize(("devices", "at_once"), [(1, 3), (2, 64)])
def test_the_faces_to_start_from_show_each_person_once(variables, devices, at_once):
    config = config_for()
    config.backbone.batch_size = at_once
    faces = faces_of_images(config, make_source(7, 2), CARD, variables, data_mesh(jax.devices()[:devices]))
    table = faces.sample()
    assert np.unique(table.subject).tolist() == list(range(faces.people)) == [0, 1, 2, 3]
    assert len(table) == len(table.norms) == len(table.media) <= 4 * 3 and (table.norms > 0).all()
    np.testing.assert_allclose(np.linalg.norm(table.embeddings, axis=1), 1, rtol=1e-5)
    owners = {
        (medium, subject)
        for medium, subject in zip(table.media.tolist(), table.subject.tolist(), strict=True)
    }
    assert len(owners) == len(np.unique(table.media))
    np.testing.assert_array_equal(faces.sample().media, table.media)


def test_too_few_people_are_said(variables):
    with pytest.raises(InputError, match=r"test: column 'subject' holds 3 subject\(s\); at least 4"):
        faces_of_images(config_for(), make_source(3, 1), CARD, variables, MESH)
    source = make_source(4, 1)
    source.encoded[0] = b""
    with pytest.raises(
        InputError, match="test: shows 3 people in readable images; training needs at least 4"
    ):
        faces_of_images(config_for(), source, CARD, variables, MESH)
