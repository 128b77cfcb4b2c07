"""Your own feature files: fit to one, evaluate on another, compare with plain poolings.

python -m fpsset.main --config configs/features.py \
    --config.data.train=train.npz --config.data.eval=eval.npz --workdir runs/mine

The default model is fitted in closed form; docs/train.md explains how. 29,000 faces of 4,300 people take five
seconds on 2 CPU cores, and the whole run half a minute. Expect a TAR at FAR 1e-3 as high as that of the best
plain pooling, and higher on poor video; the README has figures. --config.model.name=face_coreset_net trains
FaceCoresetNet from a closed-form start instead.
"""

from fpsset.config import base_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint without training."""
    config = base_config()
    config.mode = mode
    return config
