"""Backbones of commands that embed images."""

import pathlib

from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.images.presets import PRESETS, completed


def backbone_config(backbone: dict, source: object) -> ConfigDict:
    """What `load_recogniser` reads, from the options of a command.

    Args:
      backbone: values of `options.backbone_options`.
      source: what is to be embedded, for messages.

    Raises:
      InputError: there is no backbone, or an ONNX file comes without the settings of its input; the message
        names all that are missing.
    """
    if not backbone["weights"]:
        raise InputError(f"{source}: images need a backbone; give --weights BACKBONE")
    if not pathlib.Path(backbone["weights"]).exists():
        raise InputError(f"{backbone['weights']}: no such weights; give --weights BACKBONE")
    fields = completed(backbone, backbone["preset"])
    missing = ["--" + name.replace("_", "-") for name, value in fields.items() if value is None]
    if backbone["weights"].endswith(".onnx") and missing:
        raise InputError(
            f"{backbone['weights']}: does not specify its input; give --preset ({', '.join(PRESETS)}), or "
            f"{', '.join(missing)}, e.g. --color-order bgr --mean 127.5 --std 127.5"
        )
    fields["color_order"] = fields["color_order"] or ""
    return ConfigDict({"weights": backbone["weights"], **fields, "dtype": "float32"})
