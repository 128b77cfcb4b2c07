"""How much memory a file may ask for, judged by what it says of itself before anything is allocated."""

import pathlib

from fpsset.errors import InputError

_ALWAYS = 64 << 20  # bytes that any file may ask for
_MOST_TIMES = 32  # how many times its own bytes a larger file may ask for; embeddings do not compress


def require_affordable(wanted: int, path: pathlib.Path, held: int | None = None) -> None:
    """Raises InputError if what a file wants to become is out of all proportion to its size.

    Args:
      wanted: bytes that its arrays will take.
      path: the file.
      held: its bytes on disk; looked up if None.
    """
    held = path.stat().st_size if held is None else held
    if wanted > max(_ALWAYS, _MOST_TIMES * held):
        raise InputError(
            f"{path}: its arrays want {wanted:,} bytes, but it has {held:,}; at most {_MOST_TIMES} times its "
            "size is read, so save it without compression, or in parts"
        )
