"""Sources of encoded images of people: the interface, and a folder of crops."""

import pathlib
from typing import Protocol

import numpy as np

from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, decode_crop
from fpsset.images.listing import list_images
from fpsset.runtime.digests import short_digest
from fpsset.runtime.progress import StepProgress


class ImageSource(Protocol):
    """M encoded images of people, with random access from several threads.

    Attributes:
      name: where the images come from, for error messages.
      subject: [M] int64 person ids.
      media: [M] int64 ids of the still or video that each image comes from.
    """

    name: str
    subject: np.ndarray
    media: np.ndarray

    def __len__(self) -> int: ...

    def read(self, row: int) -> bytes:
        """Reads an encoded image."""

    def place(self, row: int) -> str:
        """The location of an image, for error messages."""

    def fingerprint(self) -> str:
        """A short hash that changes with the images."""


def read_crop(source: ImageSource, row: int, size: int) -> np.ndarray:
    """Reads and decodes an aligned crop: [size, size, 3] uint8, RGB; raises UnreadableImage."""
    try:
        encoded = source.read(int(row))
    except OSError as error:
        raise UnreadableImage(error.strerror or "cannot be read") from error
    return decode_crop(encoded, size)


class FolderImages:
    """Aligned crops in one folder per person; an `ImageSource`.

    Attributes:
      name: the folder.
      subject: [M] int64, the ranks of the people's folders among their sorted names.
      media: [M] int64; the frames of a video share one, see `list_images`.
    """

    def __init__(self, root: pathlib.Path):
        """Lists a folder; raises InputError if it has no images, or has loose crops."""
        images = list_images(root)
        if images.landmarks is not None:
            raise InputError(f"{root}: contains loose crops; give aligned crops, in a folder per person")
        if ignored := images.said_ignored():
            StepProgress.say(ignored)
        self.name, self.subject, self.media = str(root), images.subject, images.media
        self._root, self._paths = images.root, images.paths

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, row: int) -> bytes:
        """Reads an encoded image; raises OSError if its file is missing or unreadable."""
        return (self._root / self._paths[row]).read_bytes()

    def place(self, row: int) -> str:
        """The path of an image."""
        return str(self._root / self._paths[row])

    def fingerprint(self) -> str:
        """A short hash of the images' names, sizes, people and media, but not of their contents."""

        def state(path: str) -> str:
            try:
                return f"{path} {(self._root / path).stat().st_size}\n"
            except OSError:
                return f"{path} missing\n"

        return short_digest(np.stack([self.subject, self.media]), *map(state, self._paths))
