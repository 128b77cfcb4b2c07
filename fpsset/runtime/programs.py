"""Compiled programs, kept on disk so that later processes need not compile them again.

On a GPU or TPU each shape takes seconds to minutes to compile, so there they are kept by default.
"""

import os
import pathlib
from typing import NamedTuple

import jax

from fpsset.errors import InputError, first_line
from fpsset.runtime.files import as_path
from fpsset.runtime.progress import StepProgress

OFF = "off"
_SWITCH = "JAX_ENABLE_COMPILATION_CACHE=false"
_SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_SUFFIX = "-cache"  # of JAX's files of one program


class Programs(NamedTuple):
    """Where compiled programs are kept.

    Attributes:
      folder: a path or the address of a bucket; None if they are not kept.
      count: programs in it; None in a bucket, which is not listed.
      size_bytes: of all its files; None in a bucket.
      writable: whether this process may add to it; None in a bucket.
    """

    folder: str | None
    count: int | None
    size_bytes: int | None
    writable: bool | None


def keep_programs(folder: str = "") -> None:
    """Keeps the programs that this process compiles, and uses those that are kept.

    Without a folder they are kept on accelerators only: where JAX_COMPILATION_CACHE_DIR says, or else in
    fpsset/compiled in the user's cache. One line on stderr says so when that folder is made. This
    initialises the devices, so processes that belong together must have joined before.

    Args:
      folder: to keep them in, on CPUs too; 'off' keeps none; empty: the default.

    Raises:
      InputError: the given folder cannot be used. Where the default one cannot, this only warns.
    """
    if folder == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
    elif folder:
        _use(str(_made(folder)))
    elif _current() is None and jax.config.jax_enable_compilation_cache and jax.default_backend() != "cpu":
        _keep_in_cache_of_user()


def kept_programs() -> Programs:
    """Where this process keeps compiled programs, after `keep_programs`, and how many are there."""
    folder = _current() if jax.config.jax_enable_compilation_cache else None
    if folder is None or "://" in folder:
        return Programs(folder, None, None, None)
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    programs = sum(path.name.endswith(_SUFFIX) for path in files)
    return Programs(folder, programs, sum(path.stat().st_size for path in files), _writable(folder))


def default_folder() -> pathlib.Path | None:
    """fpsset/compiled in the user's cache: in XDG_CACHE_HOME, or else ~/.cache; None without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as the XDG specification demands
        base = os.path.expanduser("~/.cache")
    return pathlib.Path(base, "fpsset/compiled") if os.path.isabs(base) else None


def _made(folder: str):
    place = as_path(os.path.expanduser(folder), absolute=True)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = first_line(error.strerror or error)
    else:
        if "://" in folder or _writable(place):
            return place
        reason = "cannot be written to"
    raise InputError(f"{folder}: compiled programs cannot be kept there ({reason}); give another folder")


def _keep_in_cache_of_user() -> None:
    place = default_folder()
    if place is None:
        return _warn("the user has no home folder")
    new = not place.is_dir()
    try:
        # For the owner alone, since the machine code in it is run.
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        return _warn(f"{place}: {error.strerror}")
    if not _writable(place):
        return _warn(f"{place}: cannot be written to")
    _use(str(place))
    if new:
        StepProgress.say(f"compiled programs are kept in {place} ({_SWITCH} turns this off)")


def _warn(reason: str) -> None:
    StepProgress.say(
        f"warning: compiled programs are not kept ({reason}); "
        f"set JAX_COMPILATION_CACHE_DIR to a folder, or {_SWITCH}"
    )


def _use(folder: str) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    if _SECONDS not in os.environ:  # keep all: a set of shapes is ten or so programs of a second or two each
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _current() -> str | None:
    return jax.config.jax_compilation_cache_dir or None


def _writable(folder: str | os.PathLike) -> bool:
    """Whether files may be added to a folder, or to the nearest that exists of those around it."""
    folder = pathlib.Path(folder)
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
