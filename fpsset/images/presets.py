"""Input conventions of well-known recognisers, for ONNX files, which do not contain them."""

from collections.abc import Mapping
from typing import NamedTuple


class Preset(NamedTuple):
    """What a family of recognisers expects of an aligned face: (pixel - mean) / std in a colour order.

    Attributes:
      color_order: 'bgr' or 'rgb'.
      mean: of pixels in 0..255.
      std: of pixels in 0..255.
    """

    color_order: str
    mean: float
    std: float


INPUT = ("color_order", "mean", "std")  # what a network expects of its input
# Which files they are for, and where people get these, is in docs/photos.md.
PRESETS = {
    "insightface": Preset("rgb", 127.5, 127.5),
    "adaface": Preset("bgr", 127.5, 127.5),
    "cvlface": Preset("rgb", 127.5, 127.5),
    "facenet": Preset("rgb", 127.5, 128.0),
    "sface": Preset("rgb", 0.0, 1.0),
}


def completed(given: Mapping[str, object], preset: str | None) -> dict[str, object]:
    """The settings of a network's input: those given, else those of the preset, else None.

    Args:
      given: values by name; None or empty where a setting is not given, other names are ignored.
      preset: a key of `PRESETS`; None or empty for none.

    Example:
      >>> completed({"color_order": "", "mean": None, "std": 128.0}, "adaface")
      {'color_order': 'bgr', 'mean': 127.5, 'std': 128.0}
    """
    found = {}
    for name in INPUT:
        value = given.get(name)
        missing = getattr(PRESETS[preset], name) if preset else None
        found[name] = missing if value is None or value == "" else value
    return found
