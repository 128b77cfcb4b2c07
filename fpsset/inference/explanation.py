"""Why a set's descriptor is what it is: the picks, what each added, and what each face contributes."""

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

# Faces of a batch of sets that each lack one: 64 MB of 512-D embeddings.
_FACES_AT_ONCE = 32768


@dataclasses.dataclass(frozen=True)
class Explanation:
    """How a model made one descriptor of N faces, of which it picked K. All arrays are NumPy's.

    Attributes:
      descriptor: [D] float32 unit.
      norm: its length before normalisation.
      gamma: exponent of the norm in the metric.
      picks: [K] int64 faces, in the order in which they were picked; K is N in smaller sets.
      distances: [K] float32, what each pick added: its quality-aware distance to the picks before it, the
        largest of any face. NaN for the first, which has the largest norm.
      remaining_distance: the largest such distance of a face to all picks: what another pick would add.
      norms: [N] float32, as given.
      norm_weight: [N] float32, n^gamma, of norms as the model sees them.
      nearest: [N] int64 in [0, K), the pick that each face is nearest to by cosine; a pick's is itself.
      cosine: [N] float32, to that pick.
      attention: [N] float32, sums to 1: the mean of the picks' attention to each face.
      attention_by_pick: [K, N] float32, rows sum to 1: means over heads.
      agreement: [N] float32, cosine of each face to the norm-weighted mean of all others; NaN for N = 1.
      change: [N] float32, 1 - cosine of the descriptors with and without each face; NaN for N = 1. None
        where it was not asked for.
      media: [N] the medium of each face, as given; None where not known.

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
        """Faces that pick k stands for, the pick first, then by falling cosine: [n] int64."""
        rows = np.flatnonzero(self.nearest == k)
        rows = rows[np.argsort(-self.cosine[rows], kind="stable")]
        return np.concatenate([self.picks[k : k + 1], rows[rows != self.picks[k]]])

    def to_dict(self) -> dict:
        """The fields as plain Python values; None in place of NaN."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def to_json(self) -> str:
        """The fields as JSON; null in place of NaN."""
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
    """Explains one set.

    Leaving each face out costs about as much as N sets of N faces; memory stays bounded.

    Args:
      model: a set model with a coreset.
      variables: of the model; their 'gamma' is the metric's.
      embeddings: [N, D] float32 unit rows, N >= 1.
      norms: [N] float32, >= 0, as the backbone gave them.
      media: optional [N] integers or strings.
      norm_scale: factor of norms before the model sees them.
      leave_one_out: also run the model without each face.
    """
    count, slots = len(norms), bucket_size(len(norms))
    scaled = np.asarray(norms, np.float32) * np.float32(norm_scale)
    padded = np.pad(embeddings, ((0, slots - count), (0, 0))), np.pad(scaled, (0, slots - count))
    whole = np.arange(slots) < count
    leave_one_out_masks = whole & ~np.eye(slots, dtype=bool)[: count if leave_one_out and count > 1 else 0]
    masks = np.concatenate([whole[None], leave_one_out_masks])
    at_once = min(bucket_size(len(masks)) if len(masks) > 1 else 1, max(1, _FACES_AT_ONCE // slots))
    same = np.zeros(slots, np.int32)
    if media is not None:
        same[:count] = np.unique(media, return_inverse=True)[1]
    run = _runner(model, media is not None)
    descriptors = []
    for start in range(0, len(masks), at_once):
        batch = masks[start : start + at_once]
        spare = np.zeros((at_once - len(batch), slots), bool)
        out = jax.device_get(run(variables, *padded, same, np.concatenate([batch, spare])))
        descriptors.append(out[0][: len(batch)])
        if start == 0:
            norm, picks, by_pick = (value[0] for value in out[1:])
    descriptors = np.concatenate(descriptors)

    size = min(len(picks), count)
    picks, by_pick = picks[:size].astype(np.int64), by_pick[:size, :count]
    gamma = float(variables["params"]["gamma"])
    weight = np.asarray(norm_weight(scaled, gamma))
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
        agreement=_agreement(embeddings, np.asarray(norms, np.float32)),
        change=np.maximum(change, 0) if leave_one_out else None,
        media=None if media is None else np.asarray(media),
    )


@functools.lru_cache(maxsize=16)
def _runner(model: SetModel, by_media: bool):
    """Jitted: one set under B masks -> descriptors [B, D], norms [B], picks [B, K], attention [B, K, N]."""

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
        return out.descriptor, out.norm, out.coreset_indices, jnp.mean(weights, axis=-3)

    return jax.jit(run)


def _agreement(embeddings: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Cosine of each face to the norm-weighted mean of all others, [N] float32."""
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
