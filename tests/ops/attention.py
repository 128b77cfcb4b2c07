"""Keys, values and projections for tests of attention."""

import numpy as np

from fpsset.ops.attention import AttentionParams, Block

HEADS, DEPTH = 4, 8
DIM = HEADS * DEPTH


def plain(keys, values):
    return Block(keys, values)


def weighed(keys, values, quality):
    return Block(keys, values, quality)


def make_params(seed, heads=HEADS, depth=DEPTH):
    dim = heads * depth
    rng = np.random.default_rng(seed)
    shapes = AttentionParams(
        query=(dim, heads, depth),
        query_bias=(heads, depth),
        key=(dim, heads, depth),
        value=(dim, heads, depth),
        value_bias=(heads, depth),
        out=(heads, depth, dim),
        out_bias=(dim,),
    )
    return AttentionParams(*[np.float32(rng.standard_normal(s) / np.sqrt(dim)) for s in shapes])
