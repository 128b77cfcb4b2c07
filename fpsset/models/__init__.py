"""Linen modules over `fpsset.ops`: set models, pooling baselines, margin heads and face backbones."""
