"""A user's feature files: train on one, evaluate on another, compare with the plain poolings.

python -m fpsset.main --config configs/features.py \
    --config.data.train=train.npz --config.data.eval=eval.npz --workdir runs/mine

The published recipe. 4,000 steps on 27,000 faces of 3,900 people take five minutes on 2 CPU cores and
1.5 GB. Expect to learn whether your data suffice: with so few people, faces of a small backbone gave TAR
at FAR 1e-3 of .920 for fpsset and .977 for media_mean (174 other people, 174 genuine pairs; 95%
intervals .874-.954 and .948-.994).
"""

from fpsset.config import base_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint and trains nothing."""
    config = base_config()
    config.mode = mode
    return config
