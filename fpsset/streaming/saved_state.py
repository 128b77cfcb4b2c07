"""The columns of a saved summary of a stream, and what their values can be."""

import numpy as np

from fpsset.data.columns import checked_columns
from fpsset.data.rows import MAX_NORM
from fpsset.errors import InputError
from fpsset.inference.aggregator import SetAggregator
from fpsset.ops.attention import AttentionSums

# Columns of a saved summary, for the states of KCenter, RunningPicks and UniformSample.
_NUMBERS = ("size", "growth", "faces", "model")
K_CENTER = {
    "threshold": "threshold",
    "least_radius": "least_radius",
    **{name: f"cover_{name}" for name in ("centers", "norms", "counts", "reach")},
}
PICKS = (
    *(f"pick_{name}" for name in ("faces", "norms", "scores")),
    *(f"runner_{name}" for name in ("faces", "norms", "scores", "counts")),
)
SAMPLE = {name: f"sample_{name}" for name in ("faces", "norms", "keys")}
SUMS = {name: f"sum_{name}" for name in AttentionSums._fields}  # only if not `SetModel.picks_ask`
COLUMNS = (*_NUMBERS, *K_CENTER.values(), *PICKS, *SAMPLE.values())
# Dtype and axes of each column but `_NUMBERS`, see `checked_columns`.
_FORMS = {
    **{"threshold": "f", "least_radius": "f"},
    **{"cover_centers": "f M D", "cover_norms": "f M", "cover_counts": "f M", "cover_reach": "f M"},
    **{"pick_faces": "f P D", "pick_norms": "f P", "pick_scores": "f- K"},
    **{"runner_faces": "f R D", "runner_norms": "f R", "runner_scores": "f- R", "runner_counts": "iu K"},
    **{"sample_faces": "f S D", "sample_norms": "f S", "sample_keys": "f S"},
}
_FACES = {"cover": "cover_centers"}
AGAIN = "start again from the faces"


def checked_state(
    values: dict[str, np.ndarray], aggregator: SetAggregator, size: int, name: str
) -> dict[str, np.ndarray]:
    """The columns of a summary but its numbers and sums.

    Args:
      values: as read.
      aggregator: that the summary belongs to.
      size: M, the maximum number of representatives.
      name: the file, for messages.

    Raises:
      InputError: a column is missing or malformed, the columns do not fit each other, or a value is out of
        range.
    """
    known = {"D": aggregator.dim} if aggregator.dim else {}
    state = checked_columns(values, _FORMS, name, AGAIN, K=aggregator.module.coreset_size, **known)
    held = {axis: len(state[column]) for axis, column in (("M", "cover_norms"), ("S", "sample_norms"))}
    kept = {
        "cover_norms": held["M"] <= size,
        "sample_norms": held["S"] <= 8 * size,
        "pick_norms": len(state["pick_norms"]) <= len(state["pick_scores"]),
        "runner_counts": (state["runner_counts"] >= 0).all()
        and (state["runner_counts"] <= 2 * size).all()
        and state["runner_counts"].sum() == len(state["runner_norms"]),
        "cover_counts": (state["cover_counts"] >= 0).all(),
        "cover_reach": ((state["cover_reach"] >= 0) & (state["cover_reach"] <= 2)).all(),
        "threshold": 0 <= state["threshold"] < 1e300,
        "faces": values["faces"] > 0 and held["M"] > 0 and held["S"] > 0 and len(state["pick_norms"]) > 0,
    }
    for column in ("cover", "sample", "pick", "runner"):
        faces, norms = state[_FACES.get(column, f"{column}_faces")], state[f"{column}_norms"]
        kept[_FACES.get(column, f"{column}_faces")] = (np.abs(np.linalg.norm(faces, axis=1) - 1) < 1e-3).all()
        kept[f"{column}_norms"] = (
            kept.get(f"{column}_norms", True) and ((norms >= 0) & (norms <= MAX_NORM)).all()
        )
    for column, good in kept.items():
        if not good:
            raise InputError(f"{name}: '{column}' is out of range; {AGAIN}")
    return state
