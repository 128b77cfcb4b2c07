"""Synthetic faces, nothing to download.

python -m fpsset.main --config configs/quickstart.py --workdir runs/quickstart
"""

from fpsset.config import base_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint and trains nothing."""
    config = base_config()
    config.mode = mode
    config.steps = 1500
    config.optimizer.milestones = (1200,)
    config.eval_every = 250
    config.data.source = "synthetic"
    config.data.dim = 128
    return config
