"""Colours that the colour-blind can tell apart."""

import numpy as np

# Okabe and Ito's, for the groups of picks; they start over after seven.
_GROUPS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
# From the poorest to the best: dark blue, grey, yellow, as of the map cividis.
_QUALITY = np.array([[0x00, 0x22, 0x4E], [0x57, 0x5D, 0x6D], [0xA5, 0x9C, 0x74], [0xFE, 0xE8, 0x38]])


def group_color(k: int) -> str:
    """Of pick k and what it stands for, as '#rrggbb'."""
    return _GROUPS[k % len(_GROUPS)]


def norm_colors(norms: np.ndarray) -> list[str]:
    """One '#rrggbb' a face, from dark blue for the set's least norm to yellow for its largest."""
    spread = np.ptp(norms)
    shares = (norms - norms.min()) / spread if spread > 0 else np.ones(len(norms))
    stops = np.linspace(0, 1, len(_QUALITY))
    channels = np.stack([np.interp(shares, stops, _QUALITY[:, c]) for c in range(3)], axis=1)
    return ["#" + "".join(f"{round(value):02x}" for value in color) for color in channels]


def norm_ramp() -> str:
    """The same colours as stops of a CSS gradient."""
    return ", ".join("#" + "".join(f"{value:02x}" for value in stop) for stop in _QUALITY.tolist())
