"""Colours that the colour-blind can distinguish."""

import numpy as np

# The palette of Okabe and Ito, for picks and the faces nearest to each; repeats after seven.
_GROUPS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
# From the lowest norm to the highest: dark blue, grey, yellow, like the colour map cividis.
_NORM = np.array([[0x00, 0x22, 0x4E], [0x57, 0x5D, 0x6D], [0xA5, 0x9C, 0x74], [0xFE, 0xE8, 0x38]])


def group_color(k: int) -> str:
    """The colour '#rrggbb' of pick k and the faces nearest to it."""
    return _GROUPS[k % len(_GROUPS)]


def norm_colors(norms: np.ndarray) -> list[str]:
    """A colour '#rrggbb' per face, from dark blue for the lowest of norms [N] to yellow for the highest."""
    spread = np.ptp(norms)
    shares = (norms - norms.min()) / spread if spread > 0 else np.ones(len(norms))
    stops = np.linspace(0, 1, len(_NORM))
    channels = np.stack([np.interp(shares, stops, _NORM[:, c]) for c in range(3)], axis=1)
    return ["#" + "".join(f"{round(value):02x}" for value in color) for color in channels]


def norm_ramp() -> str:
    """The colours of `norm_colors` as stops of a CSS gradient."""
    return ", ".join("#" + "".join(f"{value:02x}" for value in stop) for stop in _NORM.tolist())
