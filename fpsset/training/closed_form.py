"""Models that need no training: their parameters follow from labelled faces in closed form, in seconds."""

import dataclasses
import os
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable, known_people, require_people
from fpsset.data.files import read_features
from fpsset.errors import InputError
from fpsset.evaluation.verification import operating_points
from fpsset.inference.aggregator import Aggregator
from fpsset.runtime.progress import StepProgress
from fpsset.training.neighbourhood import (
    Neighbourhood,
    group_sums,
    inverse_root,
    neighbourhood,
    norm_signal,
    person_and_medium,
    scatter,
    some_people,
)
from fpsset.weights.cards import AggregatorCard

LEAST_NORM_SIGNAL = 0.2  # of `norm_signal`; below it norms weigh all faces alike
_NORM_MEAN = 20.0  # norms are scaled to this mean


@dataclasses.dataclass(frozen=True)
class PosteriorSettings:
    """What is not estimated; TAR is flat around these values.

    Attributes:
      sharpness: difference in log weight per unit of the expected cosine to the person.
      ridge: penalty of the quality regression, in faces of the mean squared norm.
      shrinkage: share of the identity in the scatter of the noise; 1: no whitening.
      noise: variance of the noise at precision 1, relative to that of people; 0: a plain mean.
      media_power: media weigh by this power of their precision; 0: alike, a hopeless still as a sharp one.
      people_shrinkage: share of the identity in the scatter of people.
      copies: quantile of the cosines of faces of one person in two media, above which faces whose media are
        not known are taken for copies.
    """

    sharpness: float = 10.0
    ridge: float = 10.0
    shrinkage: float = 0.95
    noise: float = 0.2
    media_power: float = 0.25
    people_shrinkage: float = 0.1
    copies: float = 0.995


_SETTINGS = PosteriorSettings()


def fit(
    features: FeatureTable | str | os.PathLike, model: str = "posterior", coreset_size: int = 3
) -> Aggregator:
    """A model for the embeddings of one backbone, from labelled faces of a hundred people or more.

    Args:
      features: a feature file, or its table; people whose faces come from two media or more count.
      model: 'posterior', the recommended one, or 'whitened', a plain pooling with fitted settings.
      coreset_size: K, picks per set.

    Returns:
      An aggregator; `save` writes it for `fpsset.load`.

    Raises:
      InputError: the file is unusable, holds fewer than two people, no person has two media, or the model is
        unknown.

    Example:
      >>> import fpsset
      >>> from fpsset.data.synthetic import make_synthetic
      >>> model = fpsset.fit(make_synthetic(40, seed=0, dim=16)[0])
      >>> model
      Aggregator('posterior, fitted to synthetic (40 people, seed 0)', 3 picks, embeddings 16 wide)
    """
    table = known_people(features if isinstance(features, FeatureTable) else read_features(features))
    require_people(table)
    if model not in _FITS:
        raise InputError(f"model is {model!r}; it must be one of {', '.join(map(repr, _FITS))}")
    found = _FITS[model](table)
    if found.warning:
        StepProgress.say(f"warning: {found.warning}")
    card = found.card(
        model, coreset_size, dim=table.dim, backbone=table.backbone, train_fingerprint=table.fingerprint()
    )
    return Aggregator(found.params, card, f"{model}, fitted to {os.path.basename(table.name)}")


class Fitted(NamedTuple):
    """A fitted model."""

    params: dict[str, np.ndarray]
    norm_scale: float  # factor that the norms take first
    ignores_norms: bool  # because they say nothing
    warning: str  # what the user should know; empty if nothing

    def card(
        self,
        model: str,
        coreset_size: int,
        dim: int,
        backbone: str,
        train_fingerprint: str,
        scale: float = 1.0,
    ) -> AggregatorCard:
        """The card of its aggregator; `scale` is the factor that the norms took before the fit."""
        return AggregatorCard(
            coreset_size=coreset_size,
            num_heads=1,
            dim=dim,
            norm_scale=scale * self.norm_scale,
            backbone=backbone,
            train_fingerprint=train_fingerprint,
            by_media=True,
            model=model,
            ignores_norms=self.ignores_norms,
        )


class _Training(NamedTuple):
    """Training faces, ready for a fit."""

    table: FeatureTable  # norms scaled, or 1 where they say nothing
    norm_scale: float
    ignores_norms: bool
    warning: str


def _prepared(table: FeatureTable, norm_scale: float | None, norm_mean: float) -> _Training:
    """Some of the faces, with norms scaled by a factor, or to a mean."""
    table = some_people(table)
    signal = norm_signal(table)
    scale = _scale(table, norm_mean) if norm_scale is None else norm_scale
    scaled = table.with_norm_scale(scale)
    if signal >= LEAST_NORM_SIGNAL:
        return _Training(scaled, scale, False, "")
    alike = dataclasses.replace(scaled, norms=np.ones_like(scaled.norms))
    return _Training(alike, scale, True, _warning(signal))


def fit_posterior(
    table: FeatureTable,
    settings: PosteriorSettings = _SETTINGS,
    gamma: float = 2.0,
    norm_scale: float | None = None,
) -> Fitted:
    """Fits `PosteriorPooling`, whose model of faces is in `fpsset.ops.posterior`.

    The cosine of each face to its person's other media is regressed on its embedding and the logarithm of its
    norm, which gives the quality c. What of a face lies across its person is regressed on [1, c], which
    gives the drift; the scatter of the rest is that of the noise. The scatter of people's means, in
    coordinates in which noise is a sphere, gives the variances of people.

    Args:
      table: training faces.
      settings: what is not estimated.
      gamma: exponent of the norm in the picks' metric.
      norm_scale: factor of the norms; None: to a mean of 20.

    Raises:
      InputError: no person has two media.
    """
    training = _prepared(table, norm_scale, _NORM_MEAN)
    near = neighbourhood(training.table)
    direction, power, bias = quality_of(near, settings.ridge)
    cosine = near.faces.norms * (near.faces.embeddings @ direction) + power * np.log(near.faces.norms) + bias
    across = near.faces.embeddings - near.cosine[:, None] * near.center
    regressors = np.stack([np.ones_like(cosine), cosine], axis=1)
    drift = np.linalg.lstsq(regressors, across, rcond=None)[0]
    whitening = inverse_root(scatter(across - regressors @ drift), settings.shrinkage)
    share = settings.people_shrinkage
    people = (1 - share) * scatter(_person_means(training.table)) + share * np.eye(table.dim)
    variance, vectors = np.linalg.eigh(whitening @ people @ whitening)
    params = {
        "gamma": gamma,
        "quality_direction": direction,
        "quality_power": power,
        "quality_bias": bias,
        "sharpness": settings.sharpness,
        "drift": drift,
        "basis": whitening @ vectors,
        "person_variance": variance / variance.mean(),
        "noise": settings.noise,
        "media_power": settings.media_power,
        "copy_cosine": _copy_cosine(near.faces, settings.copies),
    }
    return Fitted(_float32(params), *training[1:])


def quality_of(near: Neighbourhood, ridge: float) -> tuple[np.ndarray, np.float32, np.float32]:
    """The quality that best predicts the cosine of a face to its person, by ridge regression.

    Returns:
      (direction [D] float32 a, power p, bias k): the expected cosine of a face is a . n u + p log n + k.
    """
    faces, dim = near.faces, near.faces.dim
    logs = np.log(faces.norms.astype(np.float64))
    columns = [
        faces.embeddings * faces.norms[:, None],
        (logs - logs.mean())[:, None],
        np.ones((len(logs), 1)),
    ]
    x = np.concatenate(columns, axis=1).astype(np.float32)
    # If all norms are equal they are uninformative, and the power is zero.
    penalty = np.array([ridge * np.mean(np.square(faces.norms))] * dim + [1e-6 * len(logs), 0.0])
    solved = np.linalg.solve((x.T @ x) + np.diag(penalty), x.T @ near.cosine)
    power = solved[dim]
    return solved[:dim].astype(np.float32), np.float32(power), np.float32(solved[-1] - power * logs.mean())


_POWERS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
_SHRINKAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_SEARCHED = 500  # people; more choose the same
_SEARCHED_MEDIA = 4000  # of these, since all pairs are compared
_FARS = (1e-3, 1e-4)


def fit_whitened(table: FeatureTable, gamma: float = 2.0) -> Fitted:
    """Fits `WhitenedMedia`: the scatter of faces around their person, a power of the norm and a shrinkage.

    Power and shrinkage are those of the best TAR on media with several frames of 500 training people, whole
    and without their best frame, whitened by the scatter of the other people. The scatter that is kept is
    that of all.

    Args:
      table: training faces.
      gamma: exponent of the norm in the picks' metric.

    Raises:
      InputError: no person has two media.
    """
    training = _prepared(table, None, 1.0)
    near = neighbourhood(training.table)
    across = near.faces.embeddings - near.cosine[:, None] * near.center
    power, shrinkage = _search(training.table, near, across)
    params = {
        "gamma": gamma,
        "power": 0.0 if training.ignores_norms else power,
        "whitening": inverse_root(scatter(across), shrinkage),
    }
    return Fitted(_float32(params), *training[1:])


_FITS = {"posterior": fit_posterior, "whitened": fit_whitened}


def _search(table: FeatureTable, near: Neighbourhood, across: np.ndarray) -> tuple[float, float]:
    """(Power, shrinkage) with the best mean TAR on some training people."""
    people = np.unique(table.subject)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(people)[: min(_SEARCHED, len(people) // 2)]
    rest = across[~np.isin(near.faces.subject, chosen)]
    if not len(rest):
        return 5.0, 0.9
    values, vectors = np.linalg.eigh(scatter(rest))
    table = table.take(np.isin(table.subject, chosen))
    medium = person_and_medium(table)[1]
    if medium.max() >= _SEARCHED_MEDIA:
        kept = rng.permutation(medium.max() + 1)[:_SEARCHED_MEDIA]
        table = table.take(np.isin(medium, kept))
        medium = person_and_medium(table)[1]
    order = np.lexsort((table.norms, medium))
    ordered = medium[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # the best frame of each medium
    several = np.bincount(medium)[ordered] > 1
    score = np.zeros((len(_POWERS), len(_SHRINKAGES)))
    for rows in (order[several], order[several & ~last]) if several.any() else (order,):
        starts = np.flatnonzero(np.diff(medium[rows], prepend=-1))
        subject = table.subject[rows[starts]]
        first, second = np.triu_indices(len(starts), 1)
        same, places = subject[first] == subject[second], first * len(starts) + second
        if same.all() or not same.any():
            return 5.0, 0.9
        fars = [max(far, 1.0 / np.count_nonzero(~same)) for far in _FARS]
        for i, power in enumerate(_POWERS):
            weighted = table.norms[rows, None] ** np.float32(power) * table.embeddings[rows]
            pooled = np.add.reduceat(weighted, starts, axis=0) @ vectors
            for j, shrinkage in enumerate(_SHRINKAGES):
                vectors_of = pooled / np.sqrt((1 - shrinkage) * values + shrinkage)
                lengths = np.maximum(np.linalg.norm(vectors_of, axis=1, keepdims=True), 1e-12)
                unit = (vectors_of / lengths).astype(np.float32)
                points = operating_points((unit @ unit.T).take(places), same, fars)
                score[i, j] += np.mean([point.tar for point in points])
    best = np.unravel_index(np.argmax(score), score.shape)
    return _POWERS[best[0]], _SHRINKAGES[best[1]]


def _scale(table: FeatureTable, wanted: float) -> float:
    """The factor that brings norms to a mean; 1 if all are zero."""
    mean = float(table.norms.mean(dtype=np.float64))
    return wanted / mean if mean else 1.0


def _person_means(table: FeatureTable) -> np.ndarray:
    """[P, D], the centred unit means of people's faces, weighted by the fifth power of the norm."""
    person, _ = person_and_medium(table)
    means = group_sums(table.embeddings * (table.norms[:, None] / table.norms.max()) ** 5, person)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return means - means.mean(axis=0)


_PAIRED = 600  # faces of a person; more would take gigabytes


def _copy_cosine(table: FeatureTable, quantile: float, people: int = 1000) -> float:
    """The quantile of cosines of faces of one person in two media, over some people who have two."""
    chosen = np.random.default_rng(0).permutation(np.unique(table.subject))[:people]
    table = table.take(np.isin(table.subject, chosen))
    person, medium = person_and_medium(table)
    order = np.argsort(person, kind="stable")
    cosines = []
    for rows in np.split(order, np.flatnonzero(np.diff(person[order])) + 1):
        rows = rows[:: -(-len(rows) // _PAIRED)]
        pairs = table.embeddings[rows] @ table.embeddings[rows].T
        cosines.append(pairs[medium[rows][:, None] != medium[rows][None]])
    return float(np.quantile(np.concatenate(cosines), quantile))


def _warning(signal: float) -> str:
    return (
        "norms do not tell the quality of these faces: their rank correlation with the cosine to the "
        f"person's other media is {signal:+.2f}, less than {LEAST_NORM_SIGNAL:g}. All norms weigh alike; if "
        "the backbone normalises its output, extract embeddings from before that"
    )


def _float32(params: dict) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float32) for name, value in params.items()}
