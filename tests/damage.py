"""Damage as a bad disk, a bad cable or a crash does it: single bits that are other, and files cut short."""

import pathlib
from collections.abc import Iterator

import numpy as np


def damaged(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields (what was done, the bytes after it) for `count` random bits, then a fourth as many cuts.

    The first cut leaves nothing. The same seed gives the same damage.
    """
    rng = np.random.default_rng([seed, len(content)])
    for bit in rng.integers(8 * len(content), size=count).tolist():
        byte = bytes([content[bit // 8] ^ 1 << bit % 8])
        yield f"bit {bit % 8} of byte {bit // 8}", content[: bit // 8] + byte + content[bit // 8 + 1 :]
    for place in [0, *rng.integers(len(content), size=-(-count // 4)).tolist()][: -(-count // 4)]:
        yield f"cut to {place} bytes", content[:place]


def bits(path: pathlib.Path, count: int, seed: int) -> Iterator[str]:
    """Damages a file in place in one way after another, and yields each time what was done; see `damaged`.

    The file is whole again at the end, also if the loop over this is left.
    """
    content = path.read_bytes()
    try:
        for what, other in damaged(content, count, seed):
            path.write_bytes(other)
            yield f"{path}: {what}"
    finally:
        path.write_bytes(content)
