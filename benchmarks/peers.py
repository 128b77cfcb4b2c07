"""Peers of the default model: plain poolings, other picks, and other papers' aggregators.

The learned aggregators are written from the published descriptions, for sets of features alone, and trained
by `train_peer` with their own losses.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import serialization

from fpsset.data.feature_table import FeatureTable
from fpsset.data.pipeline import TemplateSampler
from fpsset.face_set import FaceSet, SetDescriptor
from fpsset.models.pooling import CoresetMean, Pooling
from fpsset.models.posterior import PosteriorPooling
from fpsset.models.selector import Coreset, CoresetSelector
from fpsset.ops.masking import normalize, zero_padding
from fpsset.ops.norm_encoding import encode_norms
from fpsset.runtime.progress import StepProgress

NORM_MEAN = 20.0  # norms are scaled to this mean, as in the default recipe


@dataclasses.dataclass(frozen=True)
class TopNorms:
    """The norm-weighted mean of the `count` faces with the largest norms."""

    count: int

    def __call__(self, face_set: FaceSet) -> jax.Array:
        """Coefficients [*B, N]."""
        norms = jnp.where(face_set.mask, face_set.norms, -1.0)
        rank = jnp.argsort(jnp.argsort(-norms, axis=-1), axis=-1)
        return zero_padding(face_set.norms, face_set.mask & (rank < self.count))


def poolings(
    counts: tuple[int, ...], sizes: tuple[int, ...], gammas: tuple[float, ...]
) -> dict[str, dict[str, Pooling]]:
    """Poolings of a few faces of each set: {kind: {setting: pooling}}."""
    return {
        "top q norms": {f"q {q}": Pooling(TopNorms(q)) for q in counts},
        "FPS": {f"K {k}": Pooling(CoresetMean(k, 0.0)) for k in sizes},
        "norm FPS": {f"K {k}, {g}": Pooling(CoresetMean(k, g)) for k in sizes for g in gammas},
    }


def noise_of(embeddings: jax.Array, norms: jax.Array) -> jax.Array:
    """A pseudo-random score in [0, 1) of each face alone, so that picks do not depend on the set's order."""
    return jnp.mod(jnp.abs(embeddings.sum(-1)) * 1e4 + norms * 1e3, 1.0)


def norm_of(embeddings: jax.Array, norms: jax.Array) -> jax.Array:
    """The norm of each face."""
    del embeddings
    return norms


class SelectorByScore(CoresetSelector):
    """Picks the faces of the largest scores, whatever their distances.

    Attributes:
      score: maps embeddings [*B, N, D] and norms [*B, N] to scores [*B, N].
    """

    score: Callable = norm_of

    def __call__(self, face_set: FaceSet, axis_name: str | None = None) -> Coreset:
        """See the base."""
        del axis_name
        mask = face_set.mask
        faces, norms = zero_padding(face_set.embeddings, mask), zero_padding(face_set.norms, mask)
        size = min(self.size, mask.shape[-1])
        order = jax.lax.top_k(jnp.where(mask, self.score(faces, norms), -jnp.inf), size)[1]
        order = jnp.pad(order, [(0, 0)] * (order.ndim - 1) + [(0, self.size - size)])
        valid = jnp.arange(self.size) < mask.sum(-1, keepdims=True)
        core = jnp.take_along_axis(faces * norms[..., None], order[..., None], axis=-2)
        return Coreset(jnp.where(valid, order, -1).astype(jnp.int32), valid, zero_padding(core, valid))


class PicksByScore(PosteriorPooling):
    """The default model with a `SelectorByScore`.

    Attributes:
      score: see there.
    """

    score: Callable = norm_of

    def setup(self):  # noqa: D102
        self.selector = SelectorByScore(self.coreset_size, self.gamma_init, self.score)
        nn.share_scope(self, self.selector)


class _Peer(nn.Module):
    """Pools features n u, norms having a mean of `NORM_MEAN`; the result is scaled to unit length."""

    @nn.compact
    def __call__(self, face_set: FaceSet, *, train: bool = False) -> SetDescriptor:
        """Same interface as the set models."""
        faces = zero_padding(face_set.embeddings * face_set.norms[..., None], face_set.mask)
        return SetDescriptor(*normalize(self.pool(faces, face_set, train)))


def _softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
    return jax.nn.softmax(jnp.where(mask, logits, -1e30), axis=-1) * mask


class Nan(_Peer):
    """Neural aggregation network (CVPR 2017): two attention blocks; the first makes the second's query."""

    def pool(self, faces, face_set, train):
        """Pools features [*B, N, D] into [*B, D]."""
        dim, mask = faces.shape[-1], face_set.mask
        scaled = faces / jnp.sqrt(dim)
        query = self.param("query", nn.initializers.zeros, (dim,))
        first = jnp.einsum("...n,...nd->...d", _softmax(scaled @ query, mask), faces)
        query = jnp.tanh(nn.Dense(dim, kernel_init=nn.initializers.zeros, name="transfer")(first))
        weights = _softmax(jnp.einsum("...nd,...d->...n", scaled, query), mask)
        return jnp.einsum("...n,...nd->...d", weights, faces)


class CafaceLike(_Peer):
    """Cluster and aggregate (NeurIPS 2022), without intermediate feature maps and sequential memory.

    The style of a face is the encoding of its norm and a projection of its feature. Faces are softly assigned
    to learned centres by style, the features of each cluster are averaged, and a small network weighs the
    clusters per channel.

    Attributes:
      clusters: number of clusters M.
      style: width of the style vectors.
    """

    clusters: int = 4
    style: int = 64

    def pool(self, faces, face_set, train):
        """Pools features [*B, N, D] into [*B, D]."""
        mask, norms = face_set.mask, zero_padding(face_set.norms, face_set.mask)
        style = jnp.concatenate([nn.Dense(self.style)(faces), encode_norms(norms, self.style)], axis=-1)
        keys = nn.LayerNorm()(nn.Dense(self.style)(nn.gelu(nn.Dense(self.style)(style))))
        centers = self.param("centers", nn.initializers.normal(1.0), (self.clusters, self.style))
        shares = jax.nn.softmax(keys @ centers.T / jnp.sqrt(self.style), axis=-1)
        shares = zero_padding(shares, mask)
        mass = shares.sum(-2)
        clusters = jnp.einsum("...nm,...nd->...md", shares, faces) / jnp.maximum(mass, 1e-6)[..., None]
        styles = jnp.einsum("...nm,...ns->...ms", shares, keys) / jnp.maximum(mass, 1e-6)[..., None]
        mixed = nn.gelu(nn.Dense(self.style)(styles.reshape(*styles.shape[:-2], -1)))
        logits = nn.Dense(self.clusters * faces.shape[-1], kernel_init=nn.initializers.zeros)(mixed)
        logits = logits.reshape(*clusters.shape) + jnp.log(jnp.maximum(mass, 1e-6))[..., None]
        return jnp.sum(jax.nn.softmax(logits, axis=-2) * clusters, axis=-2)


class ProxyFusion(_Peer):
    """ProxyFusion (NeurIPS 2024), with one list of proxies: these sets are neither galleries nor probes.

    A proxy's relevance is the sum of its cosines to the faces after a projection. The experts of the most
    relevant proxies each make a centre from the mean and variance of the set and their proxy; a softmax of
    the faces' products with it weighs the unit embeddings. The descriptor is all these means, one after
    another in order of relevance.

    Attributes:
      proxies: number of proxies and experts.
      selected: number of experts used for a set.
      projected: width of the projection.
    """

    proxies: int = 11
    selected: int = 4
    projected: int = 10

    def pool(self, faces, face_set, train):
        """Pools features [*B, N, D] into [*B, selected * D]."""
        mask, dim = face_set.mask, faces.shape[-1]
        proxies = self.param(
            "proxies", nn.initializers.normal((2 / self.proxies) ** 0.5), (self.proxies, dim)
        )
        project = nn.Dense(self.projected, kernel_init=nn.initializers.kaiming_normal(), name="project")
        near = normalize(project(proxies))[0]
        self.sow("losses", "spread", _spread_loss(near))
        relevance = jnp.sum(zero_padding(normalize(project(faces))[0] @ near.T, mask), axis=-2)
        chosen = jax.lax.top_k(relevance, self.selected)[1]
        count = jnp.maximum(mask.sum(-1), 1)[..., None]
        mean = faces.sum(-2) / count
        variance = zero_padding(jnp.square(faces - mean[..., None, :]), mask).sum(-2) / count
        summary = jnp.concatenate([mean, variance], axis=-1)[..., None, :]
        summary = jnp.broadcast_to(summary, (*summary.shape[:-2], self.proxies, 2 * dim))
        shared = jnp.broadcast_to(proxies, (*summary.shape[:-1], dim))
        centers = self._experts(jnp.concatenate([summary, shared], axis=-1), dim, train)
        centers = jnp.take_along_axis(centers, chosen[..., None], axis=-2)
        logits = jnp.einsum("...nd,...kd->...kn", faces, centers)
        weights = _softmax(logits, mask[..., None, :])
        means = jnp.einsum("...kn,...nd->...kd", weights, zero_padding(face_set.embeddings, mask))
        return means.reshape(*means.shape[:-2], -1)

    def _experts(self, x: jax.Array, dim: int, train: bool) -> jax.Array:
        """Three layers for each expert: [*B, P, 3 D] -> [*B, P, D]."""
        for number, width in enumerate((2 * dim, 2 * dim, dim)):
            kernel = self.param(
                f"expert_{number}", nn.initializers.normal(1e-3), (self.proxies, x.shape[-1], width)
            )
            bias = self.param(f"expert_bias_{number}", nn.initializers.zeros, (self.proxies, width))
            x = nn.leaky_relu(jnp.einsum("...pi,pio->...po", x, kernel) + bias)
            x = nn.Dropout(0.7, deterministic=not train)(x)
        return x


def _spread_loss(near: jax.Array) -> jax.Array:
    """Pulls each projected proxy to its own corner of a regular simplex and pushes it from the others."""
    count, width = near.shape
    corners = np.eye(count) - 1 / count
    corners = np.linalg.svd(corners)[0][:, : min(width, count - 1)]
    corners = np.pad(corners, [(0, 0), (0, width - corners.shape[1])])
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    similar, own = corners.astype(np.float32) @ near.T - 0.1, jnp.eye(count, dtype=bool)
    pulled = jnp.log1p(jnp.sum(jnp.where(own, jnp.exp(-5 * similar), 0.0), axis=-1))
    pushed = jnp.log1p(jnp.sum(jnp.where(own, 0.0, jnp.exp(40 * similar)), axis=-1))
    return jnp.mean(pulled) / 5 + jnp.mean(pushed) / 40


def contrastive(vectors: jax.Array, centers: jax.Array) -> jax.Array:
    """NAN's loss on pairs of sets, with margin 2: [B, 2, D] of B people -> []."""
    del centers
    first, second = vectors[:, 0], vectors[:, 1]
    same = jnp.sum(jnp.square(first - second), axis=-1)
    other = jnp.sum(jnp.square(first - jnp.roll(second, 1, axis=0)), axis=-1)
    return jnp.mean(same + jnp.maximum(0.0, 2.0 - other)) / 2


def to_centers(vectors: jax.Array, centers: jax.Array) -> jax.Array:
    """CAFace's loss: 1 - the cosine to the centre of the person's faces, [B, 2, D], [B, D] -> []."""
    return 1 - jnp.mean(jnp.einsum("btd,bd->bt", vectors, centers))


def supervised_contrastive(vectors: jax.Array, centers: jax.Array) -> jax.Array:
    """ProxyFusion's loss on sets, at temperature .05: [B, 2, D] of B people -> []."""
    del centers
    people = len(vectors)
    flat = jnp.concatenate([vectors[:, 0], vectors[:, 1]])
    logits = flat @ flat.T / 0.05 - 1e9 * jnp.eye(2 * people)
    partner = jnp.roll(jnp.arange(2 * people), people)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), partner[:, None], axis=1))


@dataclasses.dataclass(frozen=True)
class Training:
    """How a peer is trained.

    Attributes:
      model: the peer.
      loss: ([B, 2, D] descriptors of two sets for each of B people, [B, D] centres) -> [].
      optimizer: with its schedule.
      people: B.
      steps: updates.
    """

    model: nn.Module
    loss: Callable
    optimizer: optax.GradientTransformation
    people: int
    steps: int


def _stepwise(rate: float, steps: int, *shares: float) -> optax.Schedule:
    return optax.piecewise_constant_schedule(rate, {int(share * steps): 0.1 for share in shares})


PEERS = {
    "NAN": Training(Nan(), contrastive, optax.rmsprop(_stepwise(1e-3, 4000, 0.5)), 64, 4000),
    "CAFace-like": Training(
        CafaceLike(), to_centers, optax.adamw(_stepwise(1e-3, 8000, 0.6, 0.9), weight_decay=5e-4), 32, 8000
    ),
    "ProxyFusion": Training(
        ProxyFusion(),
        supervised_contrastive,
        optax.adafactor(lambda step: jnp.minimum(1e-2, 1 / jnp.sqrt(step + 1.0))),
        16,
        700,
    ),
}


def train_peer(name: str, table: FeatureTable, file: pathlib.Path) -> tuple[nn.Module, dict, float]:
    """Trains a peer, or reads its parameters from `file` if they are there.

    Args:
      name: one of PEERS.
      table: faces of the people to train on.
      file: where the parameters are kept.

    Returns:
      (the model, its variables, the factor of the norms).
    """
    recipe = PEERS[name]
    scale = NORM_MEAN / float(table.norms.mean(dtype=np.float64))
    one = FaceSet(np.ones((1, 1, table.dim)), np.ones((1, 1)), np.ones((1, 1), bool))
    params = jax.jit(recipe.model.init)(jax.random.key(0), one)["params"]
    if file.exists():
        return recipe.model, {"params": serialization.from_bytes(params, file.read_bytes())}, scale
    state, key = recipe.optimizer.init(params), jax.random.key(1)

    def loss_of(params, sets: FaceSet, centers: jax.Array, key: jax.Array) -> jax.Array:
        out, sown = recipe.model.apply(
            {"params": params}, sets, train=True, rngs={"dropout": key}, mutable=["losses"]
        )
        vectors = out.descriptor.reshape(len(centers), 2, -1)
        extra = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(sown))
        return recipe.loss(vectors, centers) + 0.01 * extra

    @jax.jit
    def update(params, state, sets, centers, key):
        loss, gradients = jax.value_and_grad(loss_of)(params, sets, centers, key)
        changes, state = recipe.optimizer.update(gradients, state, params)
        return optax.apply_updates(params, changes), state, loss

    losses = []
    batches = _pairs_of_sets(table.with_norm_scale(scale), recipe.people)
    for step in range(recipe.steps):
        params, state, loss = update(params, state, *next(batches), jax.random.fold_in(key, step))
        losses.append(loss)
        if (step + 1) % (recipe.steps // 5) == 0:
            StepProgress.say(f"{name}: step {step + 1}, loss {np.mean(jax.device_get(losses)):.4f}")
            losses = []
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(serialization.to_bytes(params))
    return recipe.model, {"params": params}, scale


def _pairs_of_sets(table: FeatureTable, people: int) -> Iterator[tuple[FaceSet, np.ndarray]]:
    """Endless batches: two sets for each of some people, one after the other, and the people's centres."""
    sampler, rng = TemplateSampler(table), np.random.default_rng(0)
    person = np.searchsorted(sampler.people, table.subject)
    centers = np.zeros((len(sampler.people), table.dim), np.float32)
    np.add.at(centers, person, table.embeddings * table.norms[:, None])
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    while True:
        chosen = rng.choice(len(sampler.people), people, replace=False)
        rows, mask = sampler.draw(np.repeat(chosen, 2), rng)
        yield FaceSet(table.embeddings[rows], table.norms[rows], mask), centers[chosen]
