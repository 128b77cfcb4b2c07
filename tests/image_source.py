"""An image source in memory."""

import dataclasses
import io

import numpy as np
from PIL import Image

from tests.images.images import picture


@dataclasses.dataclass
class Source:
    """An `ImageSource` of encoded images, which tests may damage."""

    encoded: list[bytes]
    pixels: np.ndarray
    subject: np.ndarray
    media: np.ndarray
    name: str = "test"

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, row: int) -> bytes:
        return self.encoded[row]

    def place(self, row: int) -> str:
        return f"image {row} of test"

    def fingerprint(self) -> str:
        return str(hash(tuple(self.encoded)))


def make_source(people: int, each: int, size: int = 112) -> Source:
    """Each image is its own medium, encoded as PNG so that decoding restores its pixels."""
    pixels = np.stack([np.asarray(picture(i, size)) for i in range(people * each)])
    encoded = []
    for values in pixels:
        file = io.BytesIO()
        Image.fromarray(values).save(file, "png")
        encoded.append(file.getvalue())
    return Source(encoded, pixels, np.arange(people).repeat(each), np.arange(people * each))
