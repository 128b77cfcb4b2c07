"""A user's feature files."""

from fpsset.config import base_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint and trains nothing."""
    config = base_config()
    config.mode = mode
    return config
