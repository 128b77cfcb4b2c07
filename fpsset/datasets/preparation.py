"""Prepares TFDS datasets from files on disk."""

import contextlib
import io
import pathlib
import shutil
import tempfile
from typing import NamedTuple

from absl import logging

from fpsset.datasets.prepared import Records, import_tfds, is_prepared
from fpsset.errors import InputError
from fpsset.runtime.disk import writing
from fpsset.runtime.locks import sole_use


class Prepared(NamedTuple):
    """A dataset on disk."""

    folder: pathlib.Path
    records: int
    is_new: bool  # False if it was there before

    def __str__(self) -> str:
        said = f"{self.records} records" if self.is_new else "is already prepared from this source"
        return f"{self.folder}: {said}"


def prepare(config) -> Prepared:
    """Prepares the dataset `config.dataset` from `config.source` in a folder below `config.out`.

    A killed run leaves a folder `incomplete.*`, which nothing reads and the next run removes. The dataset is
    for its owner alone.

    Args:
      config: see `fpsset.config.preparation_config`.

    Returns:
      The dataset; its `str` is one line for the user.

    Raises:
      InputError: the source is missing or malformed, the folder contains something else, or another process
        prepares it.
    """
    tfds = import_tfds()
    logging.set_verbosity(logging.ERROR)  # TFDS warns about things that are intended here
    builder, source = _builder(config)
    folder = pathlib.Path(builder.data_dir)
    with sole_use(folder, "--config.out"), writing(folder):
        return _prepare(tfds.download.DownloadConfig(manual_dir=source), builder, folder)


def _prepare(settings, builder, folder: pathlib.Path) -> Prepared:
    unfinished = {"prefix": "incomplete.", "suffix": f"_{folder.name}"}  # TFDS's own naming
    for leftover in folder.parent.glob("*".join(unfinished.values())):
        shutil.rmtree(leftover)
    if is_prepared(folder):
        _require_same_sources(folder, builder.checksums(settings.manual_dir))
        return Prepared(folder, len(Records(folder)), False)
    if folder.exists():
        raise InputError(f"{folder}: is not a prepared dataset; delete it, or give another --config.out")
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, **unfinished) as downloads,  # required, stays empty
        contextlib.redirect_stdout(io.StringIO()),
    ):
        builder.download_and_prepare(download_dir=downloads, download_config=settings)
    folder.chmod(0o700)  # faces are for their owner alone
    return Prepared(folder, len(Records(folder)), True)


def _builder(config):
    """The dataset's builder, and the folder from which it reads."""
    from fpsset.datasets.builders.face_features import FaceFeatures
    from fpsset.datasets.builders.ijb import Ijbb, Ijbc
    from fpsset.datasets.builders.webface4m_subset import Webface4mSubset, subset_config

    source = pathlib.Path(config.source).absolute()
    if config.dataset == "face_features":
        return FaceFeatures(config=config.records, features=source.name, data_dir=config.out), source.parent
    if config.dataset == "webface4m_subset":
        return Webface4mSubset(config=subset_config(config.people, config.seed), data_dir=config.out), source
    features = str(pathlib.Path(config.features).absolute()) if config.features else ""
    return {"ijbb": Ijbb, "ijbc": Ijbc}[config.dataset](features=features, data_dir=config.out), source


def _require_same_sources(folder: pathlib.Path, sources: dict[str, str]) -> None:
    """Raises InputError unless a dataset was prepared from files with these digests."""
    recorded = Records(folder).metadata.get("sources", {})
    changed = sorted(name for name in {*recorded, *sources} if recorded.get(name) != sources.get(name))
    if changed:
        raise InputError(
            f"{folder}: was prepared from other files ({', '.join(changed)}); delete it, or give another "
            "--config.out"
        )
