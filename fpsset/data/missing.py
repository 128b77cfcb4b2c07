"""What a run reads and is not there, said at once: where it comes from, and the command that makes it."""

import pathlib
from collections.abc import Iterator

from fpsset.data.ijb import ijb_files
from fpsset.data.prepared import is_prepared
from fpsset.errors import InputError

_RUN = "python -m fpsset.main --config configs/"
_FEATURES = (
    f"features are made of images: {_RUN}extract.py --config.images=DIR --config.weights=WEIGHTS "
    f"--config.out={{path}}, or of augmented clips of WebFace4M's with {_RUN}webface4m.py:cache"
)
_IMAGES = (
    "a folder per person, a .rec pack of one, or a prepared dataset; WebFace4M comes from its authors, on "
    f"request, and {_RUN}prepare.py:webface4m_subset --config.source=WEBFACE4M makes the subset"
)
_BACKBONE = (
    "the backbone that embeds images, an IR-101 of AdaFace's authors in the paper: fpsset convert "
    "adaface_ir101_webface4m.ckpt {path}"
)
_MODEL = (
    "a workdir that holds checkpoints/, a folder that fpsset convert wrote, or a published checkpoint; "
    "FaceCoresetNet's authors publish theirs with its code"
)


def require_files(config) -> None:
    """Looks for all that a run will read before it reads any of it.

    Args:
      config: checked configuration.

    Raises:
      InputError: names everything that is missing.
    """
    missing = list(_missing(config))
    if missing:
        raise InputError("; and ".join(missing))


def _missing(config) -> Iterator[str]:
    if config.mode == "eval" and config.weights:
        yield from _unless_there(config.weights, "no such weights to evaluate", _MODEL)
    if config.data.source == "synthetic":
        return
    if config.mode == "train" and config.data.train:
        images = config.backbone.weights
        mend, what = (_IMAGES, "no such images") if images else (_FEATURES, "no such file")
        yield from _unless_there(config.data.train, f"{what} to train on", mend)
        yield from _unless_there(images, "no such weights", _BACKBONE)
    path = pathlib.Path(config.data.eval)
    if is_prepared(path) or not config.data.eval:
        return
    if path.suffix and not path.is_dir():
        yield from _unless_there(str(path), "no such file to evaluate on", _FEATURES)
        return
    try:
        ijb_files(path, config.data.eval_features)
    except InputError as error:
        yield str(error)


def _unless_there(path: str, what: str, mend: str) -> Iterator[str]:
    if path and not pathlib.Path(path).exists():
        yield f"{path}: {what}; {mend.format(path=path)}"
