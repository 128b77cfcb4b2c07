"""Models that others publish and whose licence lets anyone use them: fetched once, and checked to the bit."""

import os
import pathlib
from typing import NamedTuple

from fpsset.errors import InputError
from fpsset.runtime.digests import file_sha256
from fpsset.runtime.files import replacing

_TIMEOUT_SECONDS = 30.0


class Published(NamedTuple):
    """A file at a fixed address.

    Attributes:
      file: its name.
      url: of one version, which does not change.
      sha256: of its bytes.
      size: bytes.
      licence: its name.
      what: what it is.
    """

    file: str
    url: str
    sha256: str
    size: int
    licence: str
    what: str


PUBLISHED = {
    "yunet": Published(
        "yunet_n_dynamic.onnx",
        "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
        "0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/yunet_n_dynamic.onnx",
        "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
        322_906,
        "Apache-2.0",
        "YuNet, a face detector with five landmarks (Wu et al., 2023)",
    ),
    "sface": Published(
        "face_recognition_sface_2021dec.onnx",
        "https://media.githubusercontent.com/media/opencv/opencv_zoo/"
        "edef535367a4f8053b5bfb7580935c83772a9639/models/face_recognition_sface/"
        "face_recognition_sface_2021dec.onnx",
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        38_696_353,
        "Apache-2.0",
        "SFace, a face recogniser (Zhong et al., 2021); use it with --preset sface",
    ),
}


def cache_folder() -> pathlib.Path:
    """fpsset/models in the user's cache: in XDG_CACHE_HOME, or else ~/.cache.

    Raises:
      InputError: there is no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise InputError("the user has no home folder; set XDG_CACHE_HOME to a folder for models")
    return pathlib.Path(base, "fpsset", "models")


def fetched(name: str) -> pathlib.Path | None:
    """Where a published model is; None if it has not been fetched.

    Raises:
      InputError: the file there is not the one that was published.
    """
    path = cache_folder() / PUBLISHED[name].file
    if not path.is_file():
        return None
    if file_sha256(path) != PUBLISHED[name].sha256:
        raise InputError(f"{path}: is not {name} as published; fetch it again by fpsset fetch {name}")
    return path


def fetch(name: str, published: Published | None = None) -> tuple[pathlib.Path, bool]:
    """Fetches a published model into the user's cache, unless it is there.

    Args:
      name: a key of `PUBLISHED`.
      published: what to fetch under that name instead.

    Returns:
      (its path, whether it was fetched now).

    Raises:
      InputError: the address cannot be reached, or gives other bytes than those that were published.
    """
    one = published or PUBLISHED[name]
    path = cache_folder() / one.file
    if path.is_file() and file_sha256(path) == one.sha256:
        return path, False
    try:
        import pooch
        import requests
    except ImportError as error:
        raise InputError("fetching models needs pooch; pip install 'fpsset[photos]'") from error
    with replacing(path) as beside:
        answers = []  # which pooch does not close after an error
        download = pooch.HTTPDownloader(
            chunk_size=1 << 16,
            timeout=_TIMEOUT_SECONDS,
            hooks={"response": lambda answer, **_: answers.append(answer)},
        )
        try:
            download(one.url, str(beside), None)
        except (requests.RequestException, ValueError) as error:
            raise InputError(
                f"{one.url}: cannot be fetched ({_reason(error)}); try again, or put the file at {path}"
            ) from error
        finally:
            for answer in answers:
                answer.close()
        size, digest = beside.stat().st_size, file_sha256(beside)
        if size < one.size:
            raise InputError(
                f"{one.url}: broke off after {size} of {one.size} bytes; try again, or put the file at {path}"
            )
        if digest != one.sha256:
            raise InputError(
                f"{one.url}: gives a file whose SHA-256 is {digest[:16]}..., not {one.sha256[:16]}... as "
                f"published; nothing is kept: put the right {one.file} at {path}"
            )
    return path, True


def _reason(error: Exception) -> str:
    """What went wrong, without the address, of which requests' messages are full."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return {"ConnectTimeout": "no answer", "ReadTimeout": "no answer"}.get(
        type(error).__name__, "the connection failed or broke off"
    )
