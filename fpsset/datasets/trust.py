"""Makes sure of a prepared dataset before TFDS reads it: no code of its own, and the bytes that were written.

TFDS imports whatever module a dataset's features.json names. So the file may name nothing but the few classes
that our builders use.
"""

import pathlib

from fpsset.errors import InputError
from fpsset.runtime.digests import file_sha256
from fpsset.runtime.files import read_json, write_json

METADATA = "metadata.json"
FIX = "delete the folder and prepare it again"
_CHECKSUMS = "checksums.json"
_INFO, _FEATURES = "dataset_info.json", "features.json"
_CORE = "tensorflow_datasets.core.features."
# Names of classes, and the key of what describes them.
_ROOT = (f"{_CORE}features_dict.FeaturesDict", "featuresDict")
_KNOWN = {
    f"{_CORE}tensor_feature.Tensor": "tensor",
    f"{_CORE}scalar.Scalar": "tensor",
    f"{_CORE}text_feature.Text": "text",
    f"{_CORE}image_feature.Image": "image",
}


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the SHA-256 of every file but the records, which have checksums of their own."""
    write_json(folder / _CHECKSUMS, {path.name: file_sha256(path) for path in _small_files(folder)})


def require_trusted(folder: pathlib.Path) -> None:
    """Checks the descriptions of a dataset.

    Raises:
      InputError: a file is missing, or differs from what was written; or one names a class that is not ours.
    """
    info, features = read_json(folder / _INFO, FIX), read_json(folder / _FEATURES, FIX)
    if info.get("fileFormat") != "array_record":
        raise InputError(f"{folder / _INFO}: its fileFormat is not array_record; {FIX}")
    _require_known(features, folder / _FEATURES)
    if not (folder / _CHECKSUMS).exists():  # prepared before there were checksums
        return
    wanted = read_json(folder / _CHECKSUMS, FIX)
    held = {path.name: file_sha256(path) for path in _small_files(folder)}
    for name in sorted(wanted.keys() | held.keys()):
        if wanted.get(name) != held.get(name):
            raise InputError(f"{folder / name}: is missing, damaged or not of this dataset; {FIX}")


def _require_known(features: dict, path: pathlib.Path) -> None:
    name, key = _ROOT
    parts = features.get(key)
    inner = parts.get("features") if isinstance(parts, dict) else None
    if set(features) != {"pythonClassName", key} or features["pythonClassName"] != name:
        raise InputError(f"{path}: is not of a dataset that fpsset prepared; {FIX}")
    if not isinstance(inner, dict) or set(parts) != {"features"}:
        raise InputError(f"{path}: is not of a dataset that fpsset prepared; {FIX}")
    for column, feature in inner.items():
        kind = feature.get("pythonClassName") if isinstance(feature, dict) else None
        known = _KNOWN.get(kind) if isinstance(kind, str) else None
        if known is None or set(feature) != {"pythonClassName", known}:
            raise InputError(
                f"{path}: '{column}' is of the class {str(kind)[:80]!r}, which is not one of those that "
                "fpsset writes, so nothing of it is loaded; prepare the dataset yourself"
            )


def _small_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and ".array_record" not in path.name and path.name != _CHECKSUMS
    )
