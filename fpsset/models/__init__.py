"""Thin linen modules over `fpsset.ops`: set model, margin heads, baselines."""
