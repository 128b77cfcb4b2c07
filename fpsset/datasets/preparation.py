"""Preparing: what lies on disk becomes a TFDS dataset, once."""

import contextlib
import io
import pathlib
import shutil
import tempfile

from absl import logging

from fpsset.datasets.prepared import Records, import_tfds, is_prepared
from fpsset.errors import InputError


def prepare(config) -> str:
    """Makes the dataset `config.dataset` of `config.source`, below `config.out`; says what is there.

    A run that is killed leaves a folder `incomplete.*`, which nothing reads and the next run removes.

    Args:
      config: as `fpsset.config.preparation_config` lists it.

    Raises:
      InputError: the source is missing or wrong, or another one's dataset is there.
    """
    tfds = import_tfds()
    logging.set_verbosity(logging.ERROR)  # TFDS remarks on what is as it should be
    builder, source = _builder(config)
    folder = pathlib.Path(builder.data_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = {"prefix": "incomplete.", "suffix": f"_{folder.name}"}  # as TFDS names its own
    for left in folder.parent.glob("*".join(unfinished.values())):
        shutil.rmtree(left)
    if is_prepared(folder):
        _require_same(folder, builder.checksums(source))
        return f"{folder}: is there already, of the same source"
    if folder.exists():
        raise InputError(f"{folder}: is no prepared dataset; delete it, or give another --config.out")
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, **unfinished) as downloads,  # there are none
        contextlib.redirect_stdout(io.StringIO()),
    ):
        settings = tfds.download.DownloadConfig(manual_dir=source)
        builder.download_and_prepare(download_dir=downloads, download_config=settings)
    return f"{folder}: {len(Records(folder))} records"


def _builder(config):
    """The builder, and the folder that it reads."""
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


def _require_same(folder: pathlib.Path, sources: dict[str, str]) -> None:
    """Raises InputError unless a dataset was made of these."""
    held = Records(folder).metadata.get("sources", {})
    changed = sorted(name for name in {*held, *sources} if held.get(name) != sources.get(name))
    if changed:
        raise InputError(
            f"{folder}: was prepared of other files ({', '.join(changed)}); delete it, or give another "
            "--config.out"
        )
