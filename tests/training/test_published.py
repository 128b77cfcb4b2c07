"""The published recipe, row by row as docs/published.md lists it: what is drawn, and what is made of it."""

import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import stats

import fpsset
from fpsset.config import base_config, check_config, ijb_config, published_config
from fpsset.config.training import RECIPE
from fpsset.data.face_lists import read_landmarks
from fpsset.data.feature_table import FeatureTable
from fpsset.data.pipeline import TemplateSampler, training_batches
from fpsset.data.shuffle import ShuffledBatches
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.images import augmentation, image_ops
from fpsset.images.augmentation import ORDERED_OPERATIONS, FrameVariation, Style, augment, style_of
from fpsset.images.image_pipeline import image_batches
from fpsset.parallel.mesh import data_mesh
from fpsset.training.faces import faces_of_table, in_steps, template_law
from fpsset.training.loop import train
from fpsset.training.modules import make_head
from fpsset.training.optimizer import make_optimizer
from fpsset.weights.trained import read_params
from tests.image_source import make_source
from tests.images.images import picture

WEBFACE = 2731 * 400  # images of which a tenth is 2,731 steps of 2 x 20 templates
OFFICIAL = published_config()
LAW = template_law(OFFICIAL)


def follows(counts, expected) -> bool:
    """Whether counts are what their expected shares make likely, by a chi-square test."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return stats.chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 0.001


def images_of(people: dict[int, int], frames: int = 3) -> FeatureTable:
    """People with so many images each, and frames of every image."""
    subject = np.repeat(list(people), [count * frames for count in people.values()])
    unit = np.ones((len(subject), 2), np.float32) / math.sqrt(2)
    seed = np.arange(len(subject)) // frames
    return FeatureTable(unit, np.ones(len(subject), np.float32), subject, media=seed, seed=seed)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


@pytest.mark.parametrize(
    "config", [OFFICIAL, ijb_config("IJBB"), ijb_config("IJBC", "features"), ijb_config("IJBC", "eval")]
)
def test_every_choice_is_the_official_one_and_valid(config):
    check_config(config)
    assert all(config.recipe[field] == official for field, (_, official) in RECIPE.items())
    assert all(base_config().recipe[field] == default for field, (default, _) in RECIPE.items())
    assert config.data.norm_mean == (20 if config is OFFICIAL else 0)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("recipe.draws", "faces", "'faces'; it must be 'people' or 'images'"),
        ("recipe.epoch", 0.0, r"in \(0, 1\]"),
        ("recipe.milestones", (20, 10), "increasing epochs"),
        ("recipe.epochs", 0, "config.steps is 0; it must be at least 1"),
        ("batch_size", 50, "config.batch_size is 50; .* multiple of config.recipe.group, 20"),
        ("head.t_alpha", 1.5, r"in \[0, 1\]"),
        ("optimizer.gamma_learning_rate", -1.0, "at least 0"),
        ("data.holdout", 1.0, r"in \[0, 1\)"),
        ("model.name", "posterior", r"data.holdout is 0.0; it must be in \(0, 1\)"),
    ],
)
def test_other_values_are_refused(field, value, says):
    config = published_config()
    config.data.holdout = 0.0
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=says):
        check_config(config)


# Length


def test_steps_follow_from_passes_over_the_data_given():
    config = in_steps(OFFICIAL, types.SimpleNamespace(images=WEBFACE, people=10_000))
    assert (config.steps, config.eval_every, config.optimizer.milestones) == (409_650, 2731, (54_620,))
    assert config.steps * config.batch_size == 15 * WEBFACE
    assert config.optimizer.milestones[0] * config.batch_size == 2 * WEBFACE
    few = in_steps(OFFICIAL, types.SimpleNamespace(images=30, people=10))
    assert (few.steps, few.eval_every, few.optimizer.milestones) == (150, 1, (20,))
    assert in_steps(config, types.SimpleNamespace(images=30, people=10)) == config  # what it says stays


def test_steps_that_are_given_come_first():
    config = published_config()
    config.steps, config.eval_every, config.optimizer.milestones = 200, 50, (150,)
    config = in_steps(config, types.SimpleNamespace(images=WEBFACE, people=10_000))
    assert (config.steps, config.eval_every, config.optimizer.milestones) == (200, 50, (150,))
    plain = base_config()
    assert in_steps(plain, types.SimpleNamespace(images=30, people=10)) == plain


def test_an_epoch_is_a_tenth_of_the_images_shuffled_anew():
    batches = ShuffledBatches(800, 40, seed=3, taken=80)
    epochs = [np.concatenate([batches[2 * epoch], batches[2 * epoch + 1]]) for epoch in range(100)]
    assert all(len(set(epoch)) == 80 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 100
    assert follows(np.bincount(np.concatenate(epochs), minlength=800), np.ones(800))
    again = np.intersect1d(epochs[0], epochs[1])  # within two tenths of one pass there would be none
    assert len(again) > 0
    table = images_of({person: 8 for person in range(100)}, frames=1)
    for law, alike in ((LAW, False), (LAW._replace(epoch=1.0), True)):
        labels = np.concatenate([batch.labels for batch in take(training_batches(table, 40, 5, law), 20)])
        assert (np.ptp(np.bincount(labels)) == 0) == alike  # 20 batches are one pass


def test_the_schedule_of_the_evaluation_script():
    """It names milestone 13 and decay .2 for the checkpoint that it evaluates."""
    config = published_config()
    config.recipe.milestones, config.optimizer.decay = (13,), 0.2
    check_config(config)
    config = in_steps(config, types.SimpleNamespace(images=WEBFACE, people=10_000))
    assert config.optimizer.milestones == (13 * 2731,) and config.optimizer.decay == 0.2


# What is drawn


def test_a_person_weighs_by_its_images():
    people = {0: 1, 1: 2, 2: 5, 3: 12, 4: 20}
    table = images_of(people, frames=1)
    law = LAW._replace(epoch=1.0)
    labels = np.concatenate([batch.labels for batch in take(training_batches(table, 40, 0, law), 100)])
    assert follows(np.bincount(labels), list(people.values()))
    shares = ShuffledBatches(40, 40, 0)[0]
    assert sorted(shares) == list(range(40))  # every image once a pass
    default = take(training_batches(table, 40, 0), 100)
    assert np.ptp(np.bincount(np.concatenate([batch.labels for batch in default]))) <= 1


def test_a_template_takes_any_image_of_its_person():
    sampler = TemplateSampler(images_of({0: 10}), LAW._replace(same_size=1))
    rows, clips, mask = sampler.draw_clips(np.zeros(4000, int), np.random.default_rng(0))
    starts = mask & (np.diff(clips, axis=1, prepend=-1) > 0)
    assert follows(np.bincount(rows[starts] // 3, minlength=10), np.ones(10))


# Template size


def test_templates_of_a_gpu_share_one_size():
    sampler, rng = TemplateSampler(images_of({0: 10, 1: 10}), LAW), np.random.default_rng(0)
    sizes = np.stack([sampler.draw(np.zeros(40, int), rng)[1].sum(1) for _ in range(1000)])
    sizes = sizes.reshape(1000, 2, 20)
    assert (np.ptp(sizes, axis=2) == 0).all()
    first, second = sizes[:, :, 0].T
    assert follows(np.bincount(np.concatenate([first, second]), minlength=21)[1:], np.ones(20))
    assert abs(np.mean(first == second) - 1 / 20) < 0.03  # GPUs draw apart
    assert TemplateSampler(images_of({0: 9}), LAW).draw(np.zeros(30, int), rng)[1].shape == (30, 20)


# Clip length


def test_clip_lengths_have_the_official_law():
    """min(3, U{1 ... r}), with r the frames that the template still lacks."""
    sampler = TemplateSampler(images_of({0: 50}), LAW._replace(same_size=1))
    _, clips, mask = sampler.draw_clips(np.zeros(20_000, int), np.random.default_rng(0))
    lengths = np.zeros((21, 4))  # by r
    for clip, real in zip(clips, mask, strict=True):
        lacks = real.sum()
        for length in np.bincount(clip[real]):
            lengths[lacks, length] += 1
            lacks -= length
        assert lacks == 0
    assert lengths[:, 0].sum() == 0 and lengths[1, 1] == lengths[1].sum() and lengths[2, 3] == 0
    assert follows(lengths[2, 1:3], [1, 1])
    for r in range(3, 21):
        assert follows(lengths[r, 1:], [1, 1, r - 2]), r


def test_clips_take_no_more_frames_than_there_are():
    sampler = TemplateSampler(images_of({0: 50}, frames=2), LAW._replace(same_size=1))
    rows, clips, mask = sampler.draw_clips(np.zeros(500, int), np.random.default_rng(0))
    for row, clip, real in zip(rows, clips, mask, strict=True):
        assert np.bincount(clip[real]).max() <= 2
        assert all(len(set(row[real & (clip == c)])) == (real & (clip == c)).sum() for c in set(clip[real]))


# Crop, low resolution, light


def test_crop_resolution_and_light_are_those_of_an_image_in_a_template():
    source, rows = make_source(people=4, each=2, size=8), np.arange(8)
    batches = take(image_batches(source, rows, 40, 0, LAW, size=8, one_clip_per_image=True), 3)
    apart = take(image_batches(source, rows, 40, 0, LAW, size=8), 3)
    shared = 0
    for batch, other in zip(batches, apart, strict=True):
        np.testing.assert_array_equal(batch.mask, other.mask)
        for b, n in zip(*np.nonzero(batch.mask), strict=True):
            image = batch.images[b, batch.clip[b, n]]
            np.testing.assert_array_equal(image, other.images[b, other.clip[b, n]])
            same = [m for m in range(n + 1) if (batch.images[b, batch.clip[b, m]] == image).all()]
            assert len({batch.clip[b, m] for m in same}) == 1
            shared += len({other.clip[b, m] for m in same}) > 1
    assert shared > 100  # images are picked twice all the time here


# Channel order


def test_augmentation_sees_blue_first():
    """Grey is what tells: 114/1000 red in place of 299/1000."""
    faces = np.stack([np.asarray(picture(i)) for i in range(8)])
    numbers, key = np.arange(8), jax.random.key(0)
    made = {
        bgr: jax.jit(augment, static_argnums=4)(key, faces, numbers, numbers, Style(bgr)) for bgr in (0, 1)
    }
    swapped = jax.jit(augment)(key, faces[..., ::-1], numbers, numbers)[..., ::-1]
    np.testing.assert_allclose(made[1], swapped, atol=1e-6)
    assert np.abs(made[0] - made[1]).max() > 0.02
    gray = np.stack([faces.mean(-1).astype(np.uint8)] * 3, -1)
    one, other = (augment(key, gray, numbers, numbers, Style(bgr)) for bgr in (False, True))
    np.testing.assert_allclose(one, other, atol=1e-5)


# RandAugment


def test_equalize_is_among_fourteen_operations():
    assert style_of(OFFICIAL.recipe) == Style(bgr=True, in_order=True)
    keys = jax.random.split(jax.random.key(0), 7000)
    drawn = jax.vmap(lambda key: augmentation.draw_frame(key, len(ORDERED_OPERATIONS)))(keys)
    pairs = np.asarray(drawn.operations) @ [14, 1]
    assert follows(np.bincount(pairs, minlength=14 * 14), np.ones(14 * 14))


@pytest.mark.parametrize("kind", ["picture", "dark", "flat", "two levels", "mostly white"])
def test_equalize_is_that_of_pillow(kind):
    face = np.array(picture(3))
    face = {
        "picture": face,
        "dark": face // 8,
        "flat": np.full_like(face, 77),
        "two levels": np.where(face > 90, 200, 10).astype(np.uint8),
        "mostly white": np.where(np.arange(112)[:, None, None] < 2, face, 255).astype(np.uint8),
    }[kind]
    theirs = np.asarray(ImageOps.equalize(Image.fromarray(face)))
    ours = np.round(np.asarray(jax.jit(image_ops.equalize)(face.astype(np.float32) / 255)) * 255)
    np.testing.assert_array_equal(ours, theirs)


def by_pillow(face: Image.Image, operation: str) -> Image.Image:
    """An operation at magnitude 9 of 30 with a positive sign, as torchvision applies it with Pillow."""
    middle = 56.0
    match operation:
        case "equalize":
            return ImageOps.equalize(face)
        case "posterize":
            return ImageOps.posterize(face, 7)
        case "solarize":
            return ImageOps.solarize(face, 178.5)
        case "auto_contrast":
            return ImageOps.autocontrast(face)
        case "translate_x":
            matrix = (1, 0, -15, 0, 1, 0)
        case "rotate":
            c, s = math.cos(math.radians(9)), math.sin(math.radians(9))
            matrix = (c, -s, middle * (1 - c + s), s, c, middle * (1 - c - s))
    return face.transform((112, 112), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


@pytest.mark.parametrize(
    "operations",
    [
        ("solarize", "translate_x"),
        ("translate_x", "solarize"),
        ("rotate", "equalize"),
        ("equalize", "rotate"),
        ("equalize", "posterize"),
        ("translate_x", "auto_contrast"),
    ],
)
def test_operations_are_applied_in_the_order_drawn(operations):
    face = picture(5)
    theirs = by_pillow(by_pillow(face, operations[0]), operations[1])
    numbers = jnp.array([ORDERED_OPERATIONS.index(operation) for operation in operations])
    # The same motion as torchvision's; which sign is its positive one does not change what is drawn.
    sign = jnp.array([-1.0 if operation == "translate_x" else 1.0 for operation in operations])
    drawn = FrameVariation(numbers, sign, jnp.bool_(False))
    ours = np.round(np.asarray(_vary(np.asarray(face, np.float32) / 255, drawn)) * 255)
    assert np.mean(np.abs(ours - np.asarray(theirs, np.float32)) > 1) < 0.002  # ties of the nearest pixel


_vary = jax.jit(augmentation.vary_frame_in_order)


def test_values_stay_in_range_and_one_compilation_serves_all():
    faces, numbers = np.stack([np.asarray(picture(i)) for i in range(4)]), np.arange(4)
    made = jax.jit(lambda *given: augment(*given, Style(True, True)))
    for step in range(8):
        out = np.asarray(made(jax.random.key(step), faces, numbers, numbers))
        assert out.min() >= 0 and out.max() <= 1 and np.isfinite(out).all()
    assert made._cache_size() == 1


# AdaFace statistics, t_alpha


def norms_and_labels(count: int = 40):
    rng = np.random.default_rng(0)
    descriptor = rng.standard_normal((count, 8)).astype(np.float32)
    descriptor /= np.linalg.norm(descriptor, axis=1, keepdims=True)
    return descriptor, rng.uniform(5, 40, count).astype(np.float32), rng.integers(0, 5, count)


def test_statistics_are_those_of_the_templates_of_a_gpu():
    """Each GPU's logits are those of a head that sees its 20 templates alone; the first GPU's are kept."""
    given = norms_and_labels()
    given[1][20:] *= 2
    grouped = make_head(OFFICIAL, 5, 5).clone(t_alpha=0.5)
    alone = make_head(base_config(), 5, 5).clone(t_alpha=0.5, margin=grouped.margin)
    variables = grouped.init(jax.random.key(0), *given)
    logits, updated = grouped.apply(variables, *given, train=True, mutable=["batch_stats"])
    parts = []
    for gpu in (slice(20), slice(20, 40)):
        part, after = alone.apply(
            variables, *(array[gpu] for array in given), train=True, mutable=["batch_stats"]
        )
        parts.append(part)
        if gpu.start is None:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updated, after)
    np.testing.assert_allclose(logits, np.concatenate(parts), rtol=1e-5, atol=1e-5)
    whole, _ = alone.apply(variables, *given, train=True, mutable=["batch_stats"])
    assert np.abs(whole - logits).max() > 1e-3
    with pytest.raises(ValueError, match="30 sets do not divide into groups of 20"):
        grouped.apply(variables, *(a[:30] for a in given), train=True, mutable=["batch_stats"])
    grouped.apply(variables, *(a[:30] for a in given))  # not in training


def test_t_alpha_is_the_rate_of_the_statistics():
    config = base_config()
    assert make_head(config, 5, 5).t_alpha == 0.01 == make_head(OFFICIAL, 5, 5).t_alpha
    config.head.t_alpha = 0.25
    head, given = make_head(config, 5, 5), norms_and_labels()
    _, updated = head.apply(head.init(jax.random.key(0), *given), *given, train=True, mutable=["batch_stats"])
    found = updated["batch_stats"]
    np.testing.assert_allclose(found["mean"], 0.75 * 20 + 0.25 * given[1].mean(), rtol=1e-6)
    np.testing.assert_allclose(found["std"], 0.75 * 100 + 0.25 * given[1].std(ddof=1), rtol=1e-6)


# Gamma


def test_gamma_can_be_fixed():
    config = published_config()
    config.optimizer.gamma_learning_rate, config.model.gamma = 0.0, 0.35
    check_config(config)
    params = {"aggregator": {"gamma": jnp.float32(0.35), "w": jnp.ones(3)}, "head": {"kernel": jnp.ones(2)}}
    optimizer = make_optimizer(config.optimizer)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    assert float(updates["aggregator"]["gamma"]) == 0 and (np.asarray(updates["aggregator"]["w"]) < 0).all()


# Landmarks


def test_68_landmarks_are_read_as_five(tmp_path):
    points = np.random.default_rng(0).uniform(0, 200, (2, 68, 2)).round(3)
    file = tmp_path / "marks.txt"
    lines = [f"{i}.jpg " + " ".join(map(str, face.ravel())) for i, face in enumerate(points)]
    file.write_text("\n".join(f"{line} 0.5" for line in lines))
    found = read_landmarks(file)
    np.testing.assert_allclose(found.landmarks[:, 0], (points[:, 36] + points[:, 39]) / 2)
    np.testing.assert_allclose(found.landmarks[:, 1], (points[:, 42] + points[:, 45]) / 2)
    np.testing.assert_array_equal(found.landmarks[:, 2:], points[:, [30, 48, 54]])
    assert found.score.tolist() == [0.5, 0.5]
    file.write_text("\n".join([lines[0], "1.jpg" + " 1 2" * 5]))
    with pytest.raises(InputError, match=r"line 2 has not 68 points, as line 1"):
        read_landmarks(file)


# All of it, as a run draws it


def test_what_is_drawn_in_200_steps_on_2000_people():
    table, _ = make_synthetic(2000, 0, dim=8)
    sampler, rng = TemplateSampler(table, LAW), np.random.default_rng(0)
    sources, frames = np.unique(table.sources, return_counts=True)
    images = np.bincount(table.subject[np.unique(table.sources, return_index=True)[1]])
    batches = take(training_batches(table, 40, 0, LAW), 200)
    drawn = np.bincount(np.concatenate([batch.labels for batch in batches]), minlength=2000)
    counts = np.unique(images)
    assert follows(
        [drawn[images == count].sum() for count in counts],
        [images[images == count].sum() for count in counts],
    )
    sizes = np.concatenate([batch.face_set.mask.sum(1).reshape(2, 20) for batch in batches])
    assert (np.ptp(sizes, axis=1) == 0).all()
    assert follows(np.bincount(sizes[:, 0], minlength=21)[1:], np.ones(20))
    lengths = np.zeros((21, 4))
    for batch in batches:
        for row, clip, real in zip(*sampler.draw_clips(batch.labels, rng), strict=True):
            lacks = real.sum()
            for length, first in zip(*np.unique(clip[real], return_counts=True)[::-1], strict=True):
                seed = table.sources[row[real][np.searchsorted(clip[real], first)]]
                if frames[np.searchsorted(sources, seed)] >= 3:
                    lengths[lacks, length] += 1
                lacks -= length
    assert lengths.sum() > 10_000
    assert all(follows(lengths[r, 1:], [1, 1, r - 2]) for r in range(3, 21))


# What differs on purpose, and its switches


def test_noise_at_inference_is_a_choice():
    """Of two faces that are nearly as far, the official code picks either; argmax always the same."""
    angle = np.array([0.0, 1.0, -1.0])
    faces = np.stack([np.cos(angle), np.sin(angle)], 1)[None].astype(np.float32)
    sets = fpsset.FaceSet(faces, np.array([[20.0, 20, 20]], np.float32), np.ones((1, 3), bool))
    sets = sets.replace(norms=sets.norms + np.array([[1, 0, 0]], np.float32))
    net = fpsset.FaceCoresetNet(coreset_size=2, num_heads=1)
    variables = net.init(jax.random.key(0), sets)
    noises = jax.random.gumbel(jax.random.key(1), (50, 1, 2, 3))
    apply = jax.jit(lambda noise: net.apply(variables, sets, noise=noise, score_scale=1e4))
    out = [apply(noise) for noise in noises]
    picks = np.array([np.asarray(one.coreset_indices[0]) for one in out])
    assert (picks[:, 0] == 0).all() and set(picks[:, 1]) == {1, 2}
    plain = net.apply(variables, sets)
    assert plain.coreset_indices[0].tolist() == [0, 1]
    same = [one for one, pick in zip(out, picks, strict=True) if pick[1] == 1]
    np.testing.assert_allclose(same[0].descriptor, plain.descriptor, atol=1e-5)  # no dropout


def test_nobody_may_be_held_out(tmp_path):
    config = published_config()
    config.data.holdout, config.batch_size, config.recipe.group, config.model.num_heads = 0.0, 8, 4, 2
    config.steps, config.eval_every, config.log_every = 4, 2, 1
    check_config(config)
    table, _ = make_synthetic(12, 0, dim=8)
    faces = faces_of_table(config, table, data_mesh(jax.devices()[:1]))
    assert faces.people == 12 and len(faces.held_out) == 0
    assert faces.images == len(np.unique(table.sources))
    train(config, tmp_path, faces)
    assert read_params(tmp_path)[2].endswith("/4")  # the last


def test_draws_do_not_depend_on_how_processes_share_a_batch():
    table = images_of({person: 3 + person for person in range(20)})
    whole = take(training_batches(table, 40, 1, LAW), 3)
    for rows in np.arange(40).reshape(4, 10):
        for part, batch in zip(take(training_batches(table, 40, 1, LAW, rows), 3), whole, strict=True):
            np.testing.assert_array_equal(part.face_set.mask, batch.face_set.mask[rows])
            np.testing.assert_array_equal(part.labels, batch.labels[rows])
    assert dataclasses.is_dataclass(whole[0].face_set)
