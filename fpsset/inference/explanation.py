"""Explains the descriptor of a set: the picks, what each pick added, and what each face contributes."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.face_set import FaceSet
from fpsset.inference.batching import bucket_size
from fpsset.models.set_model import SetModel
from fpsset.ops.metric import norm_weight

# Faces per leave-one-out batch: 64 MB of 512-D embeddings.
_FACES_AT_ONCE = 32768


@dataclasses.dataclass(frozen=True)
class Explanation:
    """How a model computed the descriptor of N faces, of which it picked K. All arrays are NumPy arrays.

    Attributes:
      descriptor: [D] float32 unit vector.
      norm: length of the descriptor before normalisation, >= 0.
      gamma: exponent of the norm in the metric.
      picks: [K] int64 faces, in the order in which they were picked; K is at most N.
      distances: [K] float32 >= 0, what each pick added: its norm-weighted distance to the nearest earlier
        pick, which was the largest of any face. NaN for the first pick, which has the largest norm.
      remaining_distance: the largest norm-weighted distance of any face to its nearest pick: what one more
        pick would add.
      norms: [N] float32, as given.
      norm_weight: [N] float32, n^gamma for norms n as the model sees them.
      nearest: [N] int64 in [0, K), the nearest pick of each face by cosine; a pick's own position for picks.
      cosine: [N] float32 in [-1, 1], the cosine to that pick.
      attention: [N] float32, sums to 1: the attention to each face, averaged over picks.
      attention_by_pick: [K, N] float32, rows sum to 1: each pick's attention, averaged over heads.
      agreement: [N] float32 in [-1, 1], the cosine of each face to the norm-weighted mean of all others; NaN
        if N = 1.
      change: [N] float32 in [0, 2], 1 - cosine between the descriptors with and without each face; NaN if
        N = 1. None if not requested.
      media: [N], the medium of each face as given; None if unknown.

    Example:
      >>> import numpy as np, fpsset
      >>> faces = np.array([[3.0, 0, 0], [2.9, 0.1, 0], [0, 2, 0]])
      >>> why = fpsset.PlainAggregator(coreset_size=2).explain(faces)
      >>> why
      Explanation(3 faces, picks [0, 2], remaining distance 0.000431)
      >>> why.nearest.tolist()
      [0, 0, 1]
    """

    descriptor: np.ndarray
    norm: float
    gamma: float
    picks: np.ndarray
    distances: np.ndarray
    remaining_distance: float
    norms: np.ndarray
    norm_weight: np.ndarray
    nearest: np.ndarray
    cosine: np.ndarray
    attention: np.ndarray
    attention_by_pick: np.ndarray
    agreement: np.ndarray
    change: np.ndarray | None
    media: np.ndarray | None

    def __len__(self) -> int:
        return len(self.norms)

    def __repr__(self) -> str:
        rest = f"remaining distance {self.remaining_distance:.3g}"
        return f"Explanation({len(self)} faces, picks {self.picks.tolist()}, {rest})"

    def members(self, k: int) -> np.ndarray:
        """The faces nearest to pick k: [n] int64, the pick first, then by decreasing cosine."""
        rows = np.flatnonzero(self.nearest == k)
        rows = rows[np.argsort(-self.cosine[rows], kind="stable")]
        return np.concatenate([self.picks[k : k + 1], rows[rows != self.picks[k]]])

    def to_dict(self) -> dict:
        """The fields as plain Python values, with None in place of NaN."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def to_json(self) -> str:
        """The fields as a JSON object, with null in place of NaN."""
        return json.dumps(self.to_dict(), allow_nan=False)


def explain(
    model: SetModel,
    variables: dict,
    embeddings: np.ndarray,
    norms: np.ndarray,
    media: np.ndarray | None = None,
    norm_scale: float = 1.0,
    leave_one_out: bool = True,
) -> Explanation:
    """Explains the descriptor of one set.

    `leave_one_out` costs about as much as N sets of N faces; its memory is bounded.

    Args:
      model: a set model with a coreset.
      variables: the model's variables; 'gamma' among them is the exponent of the norm in the metric.
      embeddings: [N, D] float32 unit rows, N >= 1.
      norms: [N] float32, >= 0, as the backbone returned them.
      media: optional [N] integers or strings, the medium of each face.
      norm_scale: factor applied to norms before the model sees them.
      leave_one_out: also run the model without each face, to fill `Explanation.change`.
    """
    count, slots = len(norms), bucket_size(len(norms))
    scaled = np.asarray(norms, np.float32) * np.float32(norm_scale)
    scaled = np.ones_like(scaled) if model.ignores_norms else scaled
    padded = np.pad(embeddings, ((0, slots - count), (0, 0))), np.pad(scaled, (0, slots - count))
    # The whole set, then the set without each face; as many at once for all sets padded to one size.
    rows = np.arange(1 + (count if leave_one_out and count > 1 else 0))
    at_once = min(slots + 1, max(1, _FACES_AT_ONCE // slots)) if len(rows) > 1 else 1
    same = np.zeros(slots, np.int32)
    if media is not None:
        same[:count] = np.unique(media, return_inverse=True)[1]
    run = _runner(model, media is not None)
    descriptors = []
    for start in range(0, len(rows), at_once):
        batch = rows[start : start + at_once]
        masks = np.zeros((at_once, slots), bool)
        masks[: len(batch), :count] = np.arange(count) != batch[:, None] - 1
        out = jax.device_get(run(variables, *padded, same, masks))
        descriptors.append(out[0][: len(batch)])
        if start == 0:
            norm, picks, by_pick, weight = (value[0] for value in out[1:])
    descriptors = np.concatenate(descriptors)

    size = min(len(picks), count)
    picks, by_pick = picks[:size].astype(np.int64), by_pick[:size, :count]
    gamma = float(variables["params"]["gamma"])
    weight = weight[:count]
    apart = np.stack([np.sum(np.square(embeddings - embeddings[pick]), axis=-1) / 4 for pick in picks])
    nearest = np.argmin(apart, axis=0)
    nearest[picks] = np.arange(size)
    weighed = np.minimum.accumulate(apart * weight, axis=0)
    change = np.full(count, np.nan, np.float32)
    if len(descriptors) > 1:
        change = 1 - descriptors[1:] @ descriptors[0]
    return Explanation(
        descriptor=descriptors[0],
        norm=float(norm),
        gamma=gamma,
        picks=picks,
        distances=np.float32([np.nan, *[weighed[k, picks[k + 1]] for k in range(size - 1)]]),
        remaining_distance=float(weighed[-1].max()),
        norms=np.asarray(norms, np.float32),
        norm_weight=weight,
        nearest=nearest,
        cosine=1 - 2 * np.take_along_axis(apart, nearest[None], axis=0)[0],
        attention=by_pick.mean(axis=0),
        attention_by_pick=by_pick,
        agreement=agreement_of(embeddings, np.asarray(norms, np.float32)),
        change=np.maximum(change, 0) if leave_one_out else None,
        media=None if media is None else np.asarray(media),
    )


@functools.lru_cache(maxsize=16)
def _runner(model: SetModel, by_media: bool):
    """A jitted function of one set under B masks.

    It returns descriptors [B, D], norms [B], picks [B, K], attention [B, K, N] and norm weights [1, N].
    """

    @jax.vmap
    def frames(mask, media):
        return jnp.zeros(mask.shape, jnp.float32).at[media].add(mask)[media]

    def run(variables, embeddings, norms, media, masks):
        def tile(array):
            return jnp.broadcast_to(array[None], (len(masks), *array.shape))

        sets = FaceSet(tile(embeddings), tile(norms), masks)
        if by_media:
            sets = sets.replace(media_size=frames(masks, tile(media)), media=tile(media))
        out, weights = model.apply(variables, sets, method="with_attention")
        weighed = norm_weight(norms, variables["params"]["gamma"])[None]
        return out.descriptor, out.norm, out.coreset_indices, jnp.mean(weights, axis=-3), weighed

    return jax.jit(run)


def agreement_of(embeddings: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Cosine of each face to the norm-weighted mean of all others: [N] float32, NaN if N = 1."""
    if len(norms) == 1:
        return np.full(1, np.nan, np.float32)
    features = embeddings * norms[:, None]
    others = features.sum(axis=0) - features
    length = np.linalg.norm(others, axis=1)
    return np.sum(embeddings * others, axis=1) / np.maximum(length, np.float32(1e-12))


def _plain(value):
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
