"""Models fitted in closed form recover what was planted, and stay sane on awkward faces."""

import dataclasses

import jax
import numpy as np
import pytest

import fpsset
from fpsset.data.feature_table import FeatureTable
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.training import closed_form
from fpsset.training.closed_form import fit_posterior, fit_whitened, quality_of
from fpsset.training.neighbourhood import (
    Neighbourhood,
    inverse_root,
    neighbourhood,
    norm_signal,
    scatter,
)

DIM = 16
MODELS = ("posterior", "whitened")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def table():
    return make_synthetic(80, 0, DIM)[0]


@pytest.fixture(scope="module")
def fitted(table):
    return {name: fpsset.fit(table, name) for name in MODELS}


@pytest.fixture(scope="module")
def others():
    """Faces of other people, to compare models by: 1 to 8 of each, which share a program."""
    return make_synthetic(12, 1, DIM, stills=(1, 5), clips=(0, 1), frames=(2, 3))[0]


def descriptors(model, faces, known=True):
    media = faces.media if known else None
    return model.aggregate(faces.embeddings, faces.norms, faces.subject, media=media).descriptors


def test_the_regression_of_quality_recovers_what_was_planted():
    rng = np.random.default_rng(0)
    faces, norms = unit(rng.standard_normal((2000, DIM))), rng.uniform(2, 40, 2000).astype(np.float32)
    direction, power, bias = 0.02 * rng.standard_normal(DIM), 0.2, -0.3
    cosine = norms * (faces @ direction) + power * np.log(norms) + bias
    ids = np.arange(2000)
    near = Neighbourhood(FeatureTable(faces, norms, ids, ids), faces, cosine.astype(np.float32))
    found = quality_of(near, ridge=1e-3)
    np.testing.assert_allclose(found[0], direction, atol=1e-4)
    assert found[1:] == pytest.approx((power, bias), abs=2e-3)


def planted_drift(people=60, each=8, seed=0):
    """Media of one face, whose part along the person is .1 + .25 log n; the rest of it is one drift."""
    rng = np.random.default_rng(seed)
    drift = 0.5 * unit(rng.standard_normal(DIM))
    persons = rng.standard_normal((people, DIM))
    persons = unit(persons - np.outer(persons @ drift, drift) / (drift @ drift))
    cosine = rng.uniform(0.3, 1, people * each)
    cosine[::4] = 1
    subject = np.repeat(np.arange(people), each)
    faces = cosine[:, None] * persons[subject] + np.outer(1 - cosine, drift)
    norms = np.exp((cosine - 0.1) / 0.25)
    table = FeatureTable(faces.astype(np.float32), norms.astype(np.float32), subject, np.arange(len(subject)))
    return table, drift


def test_the_drift_of_poor_faces_is_recovered():
    """At c = 1 there is none; near the planted one for all c."""
    table, drift = planted_drift()
    params = fit_posterior(table, norm_scale=1.0).params
    assert params["quality_power"] == pytest.approx(0.25, abs=0.02)
    for c in (0.4, 0.7, 1.0):
        found = params["drift"][0] + c * params["drift"][1]
        np.testing.assert_allclose(found, (1 - c) * drift, atol=0.02)


def test_the_whitening_is_the_inverse_root_of_the_shrunk_scatter(table):
    near = neighbourhood(dataclasses.replace(table, norms=table.norms / table.norms.mean()))
    moments = scatter(near.faces.embeddings - near.cosine[:, None] * near.center)
    assert np.trace(moments) == pytest.approx(DIM, rel=1e-5)
    for shrinkage in (0.0, 0.3, 1.0):
        root = inverse_root(moments, shrinkage)
        shrunk = (1 - shrinkage) * moments + shrinkage * np.eye(DIM)
        np.testing.assert_allclose(root, root.T, atol=1e-10)
        np.testing.assert_allclose(root @ shrunk @ root, np.eye(DIM), atol=1e-8)
    whitening = fit_whitened(table).params["whitening"].astype(np.float64)
    inverse = np.linalg.inv(whitening @ whitening)
    share = (np.trace(inverse @ moments) - DIM) / (np.trace(moments @ moments) - DIM)  # 1 - shrinkage
    np.testing.assert_allclose(inverse, share * moments + (1 - share) * np.eye(DIM), atol=1e-3)
    assert 0 <= share <= 0.5 + 1e-4


def test_the_basis_makes_noise_a_sphere_and_people_independent(table):
    params = fit_posterior(table).params
    _, stretch, _ = np.linalg.svd(params["basis"].astype(np.float64))
    assert stretch.min() > 0.5 and stretch.max() < 1 / 0.95**0.5 + 1e-3  # 95% of the scatter is shrunk
    assert (params["person_variance"] > 0).all()
    assert params["person_variance"].mean() == pytest.approx(1, rel=1e-5)


def test_how_far_norms_tell_quality(table):
    cosine = neighbourhood(table, power=0.0).cosine

    def signal(norms):
        return norm_signal(dataclasses.replace(table, norms=norms.astype(np.float32)))

    assert signal(np.exp(cosine)) == pytest.approx(1) and signal(np.exp(-cosine)) == pytest.approx(-1)
    assert signal(np.ones_like(cosine)) == signal(np.zeros_like(cosine)) == 0
    assert abs(signal(np.random.default_rng(0).permutation(table.norms))) < 0.1
    assert 0.2 < signal(table.norms) < 1
    # Norms of two values, in an order that says nothing: ranks of equal ones are equal.
    assert signal(1 + (cosine > np.median(cosine))) == signal(3 + 5 * (cosine > np.median(cosine))) > 0.8


@pytest.mark.parametrize("name", MODELS)
def test_norms_that_say_nothing_are_said_and_ignored(table, others, capsys, name):
    rng = np.random.default_rng(0)
    shuffled = dataclasses.replace(table, norms=rng.permutation(table.norms))
    model = fpsset.fit(shuffled, name)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "norms do not tell the quality of these faces" in err
    assert model.card.ignores_norms and model.module.ignores_norms
    spoilt = dataclasses.replace(others, norms=rng.uniform(0, 9, len(others)).astype(np.float32))
    for known in (True, False):
        np.testing.assert_array_equal(descriptors(model, spoilt, known), descriptors(model, others, known))
    assert (
        model.digest
        != fpsset.Aggregator(
            model.variables["params"], dataclasses.replace(model.card, ignores_norms=False)
        ).digest
    )


@pytest.mark.parametrize("name", MODELS)
def test_norms_that_tell_are_heeded_without_a_word(fitted, table, others, capsys, name):
    capsys.readouterr()
    fpsset.fit(table, name)
    assert capsys.readouterr().err == "" and not fitted[name].card.ignores_norms
    alike = dataclasses.replace(others, norms=np.full_like(others.norms, 20))
    assert np.abs(descriptors(fitted[name], alike) - descriptors(fitted[name], others)).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_people_with_one_medium_teach_nothing(table, name):
    for change in ({"media": table.subject, "seed": None}, {"seed": table.subject}):
        with pytest.raises(InputError, match=r"synthetic.*: no person has two media, so nothing") as error:
            fpsset.fit(dataclasses.replace(table, **change), name)
        assert "\n" not in str(error.value)


def test_other_refusals(table):
    with pytest.raises(InputError, match="model is 'plain'; it must be one of 'posterior', 'whitened'"):
        fpsset.fit(table, "plain")
    with pytest.raises(InputError, match="1 subject"):
        fpsset.fit(table.take(table.subject == 3))
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        fpsset.fit("none.npz")


AWKWARD = {
    "two_people": lambda t: t.take(t.subject < 2),
    "a_frame_per_medium": lambda t: dataclasses.replace(t, media=np.arange(len(t)), seed=None),
    "equal_faces_of_each_person": lambda t: dataclasses.replace(t, embeddings=t.embeddings[t.subject]),
    "all_faces_equal": lambda t: dataclasses.replace(t, embeddings=np.repeat(t.embeddings[:1], len(t), 0)),
    "flat": lambda t: dataclasses.replace(t, embeddings=unit(t.embeddings[:, :2])),
    "zero_norms": lambda t: dataclasses.replace(t, norms=np.zeros_like(t.norms)),
    "some_zero_norms": lambda t: dataclasses.replace(t, norms=np.where(t.media % 2, t.norms, 0)),
    "tiny_norms": lambda t: t.with_norm_scale(1e-12),
    "huge_norms": lambda t: t.with_norm_scale(1e8),
    "one_person_with_two_media": lambda t: dataclasses.replace(
        t, media=np.where(t.subject == 5, t.media, 1000 + t.subject), seed=None
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("name", MODELS)
def test_awkward_faces_give_a_sane_model(table, others, name, case):
    model, faces = fpsset.fit(AWKWARD[case](table), name), AWKWARD[case](others)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.variables))
    for known in (True, False):
        found = descriptors(model, faces, known)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_repeats_to_the_same_bits(fitted, table, name):
    again = fpsset.fit(dataclasses.replace(table), name)
    jax.tree.map(np.testing.assert_array_equal, again.variables, fitted[name].variables)
    assert again.card == fitted[name].card and again.digest == fitted[name].digest


@pytest.mark.parametrize("name", MODELS)
def test_the_unit_of_norms_does_not_matter(fitted, table, others, name):
    model = fpsset.fit(table.with_norm_scale(7), name)
    for known in (True, False):
        found = descriptors(model, others.with_norm_scale(7), known)
        np.testing.assert_allclose(found, descriptors(fitted[name], others, known), atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_rows_and_the_numbers_of_media_do_not_matter(fitted, table, others, name):
    rng = np.random.default_rng(0)
    shuffled = dataclasses.replace(table, media=7 * table.media + 3, seed=90 - 2 * table.seed)
    shuffled = shuffled.take(rng.permutation(len(table)))
    model = fpsset.fit(shuffled, name)
    for known in (True, False):
        found = descriptors(model, others, known)
        np.testing.assert_allclose(found, descriptors(fitted[name], others, known), atol=1e-4)


def test_many_faces_are_sampled_before_they_are_paired(monkeypatch):
    """All pairs of the faces of a long video, or of thousands of media, would not fit in memory."""
    monkeypatch.setattr(closed_form, "_SEARCHED_MEDIA", 60)
    monkeypatch.setattr(closed_form, "_PAIRED", 50)
    compared, paired = [], []

    def spy(seen, function):
        return lambda values, *rest: seen.append(len(values)) or function(values, *rest)

    monkeypatch.setattr(closed_form, "operating_points", spy(compared, closed_form.operating_points))
    monkeypatch.setattr(np, "quantile", spy(paired, np.quantile))
    rng = np.random.default_rng(0)
    subject = np.repeat([0, 1, 2, 3], 400)
    faces = unit(np.eye(4)[subject] + 0.5 * rng.standard_normal((1600, 4)))
    norms = rng.uniform(5, 30, 1600).astype(np.float32)
    table = FeatureTable(faces, norms, subject, np.arange(1600) // 2)
    for fit in (fit_posterior, fit_whitened):
        assert all(np.isfinite(value).all() for value in fit(table).params.values())
    assert 0 < max(compared) <= 60 * 59 / 2 and 0 < max(paired) <= 4 * 50**2


def test_the_fitted_models_beat_the_mean_of_poor_faces(fitted):
    """Poor synthetic faces drift in one direction, which both models can see."""
    faces, _ = make_synthetic(60, 2, DIM, stills=(4, 6), clips=(0, 2), frames=(2, 3))
    half = 2 * faces.subject + faces.media % 2
    faces = dataclasses.replace(faces, subject=half)

    def spread(model):
        vectors = descriptors(model, faces)
        scores, person = vectors @ vectors.T, np.unique(half) // 2
        same = (person[:, None] == person) & ~np.eye(len(person), dtype=bool)
        return scores[same].mean() - np.quantile(scores[person[:, None] != person], 0.99)

    plain = spread(fpsset.PlainAggregator())
    assert spread(fitted["posterior"]) > plain + 0.05 and spread(fitted["whitened"]) > plain
