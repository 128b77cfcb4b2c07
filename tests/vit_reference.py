"""CVLface's ViT in plain NumPy, read from its published layout: state dicts as drawn, and what they compute.

Written from the facts of the layout (names, shapes, order of operations, constants), one face at a time, in
float64 and by loops, so that it shares nothing with `fpsset.models.vit`.
"""

import math

import numpy as np


def draw_state(config, seed: int = 0) -> dict[str, np.ndarray]:
    """A state dict in the published layout, of random values."""
    rng = np.random.default_rng(seed)
    width, dim, tokens = config.width, config.dim, (112 // config.patch) ** 2

    def draw(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def linear(key, out, size, bias=True):
        found = {f"{key}.weight": draw(out, size, scale=size**-0.5)}
        return found | ({f"{key}.bias": draw(out, scale=0.1)} if bias else {})

    def norm(key, size):
        return {f"{key}.weight": 1 + draw(size, scale=0.2), f"{key}.bias": draw(size, scale=0.1)}

    def batch_norm(key, size):
        held = {f"{key}.running_mean": draw(size, scale=0.1), f"{key}.running_var": 0.5 + abs(draw(size))}
        return norm(key, size) | held | {f"{key}.num_batches_tracked": np.asarray(7, np.int64)}

    state = {
        "pos_embed": draw(1, tokens, width, scale=0.3),
        "patch_embed.proj.weight": draw(width, 3, config.patch, config.patch, scale=0.1),
        "patch_embed.proj.bias": draw(width, scale=0.1),
    }
    for block in range(config.depth):
        there = f"blocks.{block}."
        state |= norm(f"{there}norm1", width) | norm(f"{there}norm2", width)
        state |= linear(f"{there}attn.qkv", 3 * width, width, bias=False)
        state |= linear(f"{there}attn.proj", width, width)
        state |= linear(f"{there}mlp.fc1", config.hidden, width)
        state |= linear(f"{there}mlp.fc2", width, config.hidden)
    state |= norm("norm", width)
    state |= linear("feature.0", width, width * tokens, bias=False) | batch_norm("feature.1", width)
    state |= linear("feature.2", dim, width, bias=False) | batch_norm("feature.3", dim)
    if config.keypoints:
        state |= linear("keypoint_linear", 49 * config.num_heads * config.depth, 10)
    return state


def features_of(state: dict, heads: int, image: np.ndarray, keypoints=None) -> np.ndarray:
    """The unnormalised embedding of one image [3, 112, 112] in [-1, 1]: [D] float64."""
    state = {key: np.asarray(value, np.float64) for key, value in state.items()}
    kernel = state["patch_embed.proj.weight"]
    patch = kernel.shape[-1]
    grid = 112 // patch
    tokens = []
    for row in range(grid):
        for column in range(grid):
            pixels = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            tokens.append((kernel * pixels).sum((1, 2, 3)) + state["patch_embed.proj.bias"])
    x = np.array(tokens) + state["pos_embed"][0]
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    for block in range(depth):
        there = f"blocks.{block}."
        bias = None if keypoints is None else _biases(state, keypoints, block, depth, heads, grid)
        x = x + _attention(state, f"{there}attn.", _layer_norm(state, f"{there}norm1", x), heads, bias)
        y = _linear(state, f"{there}mlp.fc1", _layer_norm(state, f"{there}norm2", x))
        x = x + _linear(state, f"{there}mlp.fc2", np.minimum(np.maximum(y, 0), 6))
    x = _layer_norm(state, "norm", x).reshape(-1)
    x = _batch_norm(state, "feature.1", state["feature.0.weight"] @ x)
    return _batch_norm(state, "feature.3", state["feature.2.weight"] @ x)


def bucket(offset_rows: int, offset_columns: int) -> int:
    """The bucket of the offset from a key's patch to a query's, by Python's own arithmetic."""

    def index(offset: int) -> int:
        if abs(offset) <= 1.9:
            return offset
        far = 1.9 + math.log(abs(offset) / 1.9) / math.log(15.2 / 1.9) * (3.8 - 1.9)
        return int(math.copysign(min(round(far), 3.8), offset))

    return (index(offset_rows) + 3) * 7 + index(offset_columns) + 3


def _biases(state, keypoints, block, depth, heads, grid) -> np.ndarray:
    """[H, N, N]: of each head, from query to key."""
    bias = np.empty((heads, grid**2, grid**2))
    for query in range(grid**2):
        row, column = divmod(query, grid)
        centre = np.array([(column + 0.5) / grid, (row + 0.5) / grid])  # (x, y)
        table = _linear(state, "keypoint_linear", (centre - keypoints).reshape(-1))
        table = table.reshape(depth, heads, 49)[block]
        for key in range(grid**2):
            other_row, other_column = divmod(key, grid)
            bias[:, query, key] = table[:, bucket(row - other_row, column - other_column)]
    return bias


def _attention(state, there, x, heads, bias) -> np.ndarray:
    query, key, value = np.split(x @ state[f"{there}qkv.weight"].T, 3, axis=1)
    mixed, channels = [], x.shape[1] // heads
    for head in range(heads):
        part = slice(head * channels, (head + 1) * channels)
        scores = query[:, part] @ key[:, part].T / math.sqrt(channels)
        if bias is not None:
            scores = scores + bias[head]
        weights = np.exp(scores - scores.max(1, keepdims=True))
        mixed.append(weights / weights.sum(1, keepdims=True) @ value[:, part])
    return _linear(state, f"{there}proj", np.concatenate(mixed, axis=1))


def _linear(state, key, x) -> np.ndarray:
    return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]


def _layer_norm(state, key, x) -> np.ndarray:
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]


def _batch_norm(state, key, x) -> np.ndarray:
    scaled = (x - state[f"{key}.running_mean"]) / np.sqrt(state[f"{key}.running_var"] + 2e-5)
    return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]
