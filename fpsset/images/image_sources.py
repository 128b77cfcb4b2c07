"""Encoded images of people by number: what every source of them offers, and a folder of crops as one."""

import pathlib
from typing import Protocol

import numpy as np

from fpsset.errors import InputError
from fpsset.images.image_files import UnreadableImage, decode_crop
from fpsset.images.listing import list_images
from fpsset.runtime.digests import short_digest


class ImageSource(Protocol):
    """M encoded images of people, in any order of access, by several threads at once.

    Attributes:
      name: where they come from, for messages.
      subject: [M] int64, the person.
      media: [M] int64, the still or video an image comes from.
    """

    name: str
    subject: np.ndarray
    media: np.ndarray

    def __len__(self) -> int: ...

    def read(self, row: int) -> bytes:
        """An encoded image."""

    def place(self, row: int) -> str:
        """Where an image is, for messages."""

    def fingerprint(self) -> str:
        """A short hash that changes with the images."""


def read_crop(source: ImageSource, row: int, size: int) -> np.ndarray:
    """An image of a source: [size, size, 3] uint8, RGB; raises UnreadableImage."""
    try:
        encoded = source.read(int(row))
    except OSError as error:
        raise UnreadableImage(error.strerror or "cannot be read") from error
    return decode_crop(encoded, size)


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

        def state(path: str) -> str:
            try:
                return f"{path} {(self._root / path).stat().st_size}\n"
            except OSError:
                return f"{path} missing\n"

        return short_digest(np.stack([self.subject, self.media]), *map(state, self._paths))
