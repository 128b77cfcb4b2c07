"""The published recipe on your own feature files, to compare with the default model.

python -m fpsset.main --config configs/faithful.py \
    --config.data.train=train.npz --config.data.eval=eval.npz --workdir runs/faithful

4,000 steps on 27,000 faces of 3,900 people take five minutes on 2 CPU cores, and 1.5 GB. Weights start at
random, and the recipe was designed for the 10,000 people of WebFace4M: with fewer, expect it to do worse than
plain poolings.
"""

from fpsset.config import published_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint without training."""
    config = published_config()
    config.mode = mode
    return config
