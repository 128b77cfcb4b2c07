"""Synthetic faces, nothing to download: fit, evaluate, compare with plain poolings.

python -m fpsset.main --config configs/quickstart.py --workdir runs/quickstart

Takes about 25 seconds on 2 CPU cores. Expect a TAR at FAR 1e-3 of about 0.97 for fpsset and the fitted
pooling 'whitened', 0.92 for the best other (200 synthetic people, 200 genuine pairs). Poor synthetic faces
share one direction of error, which a model can learn to ignore: the figures show that fitting works, not how
well it does on real faces. --config.model.name=face_coreset_net trains FaceCoresetNet instead, for 300 steps.
"""

from fpsset.config import base_config


def get_config(mode: str = "train"):
    """`:eval` evaluates the workdir's best checkpoint without training."""
    config = base_config()
    config.mode = mode
    config.steps = 300
    config.eval_every = 100
    config.data.source = "synthetic"
    config.data.people = 2000
    config.data.dim = 128
    return config
