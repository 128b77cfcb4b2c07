"""A user's feature files: train on one, evaluate on another, compare with the plain poolings.

python -m fpsset.main --config configs/features.py \
    --config.data.train=train.npz --config.data.eval=eval.npz --workdir runs/mine

The default recipe: it starts at a pooling made of the training faces and trains the attention from there, at
a low rate; docs/train.md says why. 1,000 steps on 26,000 faces of 3,900 people take about a minute on 2 CPU
cores. Expect TAR at FAR 1e-3 near that of the best plain pooling, and above it where faces are poor; the
README has figures.
"""

from fpsset.config import base_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint and trains nothing."""
    config = base_config()
    config.mode = mode
    return config
