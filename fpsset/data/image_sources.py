"""Encoded images of people by number, from what is on disk."""

import hashlib
import os
import pathlib

import numpy as np

from fpsset.data.ijb import find_one
from fpsset.data.image_pipeline import ImageSource
from fpsset.data.listing import list_images
from fpsset.data.prepared import PreparedImages, is_prepared
from fpsset.data.record_pack import RecordImages
from fpsset.errors import InputError


class FolderImages:
    """Aligned crops in a folder per person; an `ImageSource`.

    Attributes:
      name: the folder.
      subject: [M] int64, numbers of the people's folders in the order of their names.
      media: [M] int64; frames of a video share one, as `list_images` tells them.
    """

    def __init__(self, root: pathlib.Path):
        """Lists the folder."""
        images = list_images(root)
        if images.landmarks is not None:
            raise InputError(f"{root}: holds loose crops; give aligned ones, in a folder per person")
        self.name, self.subject, self.media = str(root), images.subject, images.media
        self._root, self._paths = images.root, images.paths

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, row: int) -> bytes:
        """An encoded image.

        Raises:
          OSError: the file is gone, or cannot be read.
        """
        return (self._root / self._paths[row]).read_bytes()

    def place(self, row: int) -> str:
        """The image's path."""
        return str(self._root / self._paths[row])

    def fingerprint(self) -> str:
        """A short hash of the names and sizes of all images, and whose they are; not of their bytes."""
        digest = hashlib.sha256(np.stack([self.subject, self.media]).tobytes())
        for path in self._paths:
            try:
                size = (self._root / path).stat().st_size
            except OSError:
                size = "missing"
            digest.update(f"{path} {size}\n".encode())
        return digest.hexdigest()[:16]


def open_images(path: str | os.PathLike) -> ImageSource:
    """Opens the images of people that training takes.

    Args:
      path: a folder with a folder of aligned crops per person; a pack of such crops, a `.rec` file or the
        folder that holds one; or a prepared dataset of them.

    Raises:
      InputError: there are none.
    """
    path = pathlib.Path(path)
    if is_prepared(path):
        return PreparedImages(path)
    pack = find_one("*.rec", path) if path.is_dir() else path
    if pack is not None and pack.suffix == ".rec":
        return RecordImages(pack)
    if path.is_file():
        raise InputError(f"{path}: holds no images that can be read; give a folder of them, or a .rec")
    return FolderImages(path)
