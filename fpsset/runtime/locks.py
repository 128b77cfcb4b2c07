"""Locks, so that two runs do not write to one place."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator

from fpsset.errors import InputError
from fpsset.runtime.disk import writing
from fpsset.runtime.progress import StepProgress

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def sole_use(path: os.PathLike, instead: str, folder: bool = False) -> Iterator[None]:
    """Keeps other processes from the same work while the block runs.

    The operating system releases the lock of a process that dies. A bucket (gs://...) has no locks, nor have
    some file systems, which is said: there the user must not start two runs.

    Args:
      path: folder or file that the block writes.
      instead: the option that names another place, for the error message.
      folder: `path` is a folder that stays, in which the lock file may lie; else it lies beside.

    Raises:
      InputError: another process works there, which the message names, or the place cannot be written to.
    """
    if "://" in str(path):
        yield
        return
    path = pathlib.Path(path)
    file = path / ".lock" if folder else path.with_name(f".{path.name}.lock")
    made = not file.parent.exists()
    try:
        with writing(path):
            file.parent.mkdir(parents=True, exist_ok=True)
            held = _locked(file)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written to ({error.strerror}); give another {instead}"
        ) from error
    if held is None:
        owner = _owner(file)
        raise InputError(f"{path}: is in use by {owner}; wait for it, or give another {instead}")
    try:
        _name_owner(held)
        yield
    finally:
        if held >= 0:
            file.unlink(missing_ok=True)  # while it is locked: nobody else can have taken it
            os.close(held)
        if made:
            with contextlib.suppress(OSError):  # it is not empty
                file.parent.rmdir()


def _locked(file: pathlib.Path) -> int | None:
    """The descriptor of the locked file; None if another process holds it, -1 if there are no locks."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        except FileNotFoundError:  # its holder has just ended, and removed it
            pass
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_LOCKS:
                raise
            StepProgress.say(f"warning: {file.parent}: has no locks; do not start two runs there")
            return -1
        os.close(descriptor)


def _name_owner(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # on a full disk it is locked all the same
        os.ftruncate(descriptor, 0)
        owner = {"process": os.getpid(), "host": socket.gethostname()}
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _owner(file: pathlib.Path) -> str:
    try:
        owner = json.loads(file.read_bytes()[:1000])
        return f"process {int(owner['process'])} on {str(owner['host'])[:100]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
