"""The recipe of FaceCoresetNet's official training script, on your own feature files.

python -m fpsset.main --config configs/published.py \
    --config.data.train=train.npz --config.data.eval=eval.npz --workdir runs/published

15 passes over the images in 150 epochs, with lower rates after two of the passes: some 410,000 steps on the
10,000 people of WebFace4M that it was designed for. docs/published.md has every choice beside this package's
own, and what still differs. Weights start at random: with few people, expect it to do worse than plain
poolings. --config.steps=N trains for N steps, whatever the data holds.
"""

from fpsset.config import published_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint without training."""
    config = published_config()
    config.mode = mode
    return config
