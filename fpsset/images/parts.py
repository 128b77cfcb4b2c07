"""Parts of an extraction, kept beside its file until that is written, so that it can be interrupted."""

import pathlib

import jax
import numpy as np

from fpsset.data.columns import checked_columns
from fpsset.data.npz import read_npz
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, read_face
from fpsset.images.augmentation import Style, style_of
from fpsset.images.listing import ImageList
from fpsset.images.recognisers import NOT_EMBEDDED, Recogniser
from fpsset.runtime.apart import forget
from fpsset.runtime.digests import short_digest
from fpsset.runtime.kept_parts import claim, claimed_by, file_state

# Columns of a part, see `checked_columns`.
_PART = {
    **{"rows": "iu M", "embeddings": "f M D", "norms": "f M"},
    **{"bad_rows": "iu B", "bad_reasons": "U B"},
}


class Parts:
    """The parts of an extraction: one file for each range of images, whoever embeds it.

    Attributes:
      folder: of the parts, hidden beside the feature file.
      files: all of them, in the order of the images, whether they are there or not.
    """

    def __init__(self, out: pathlib.Path, images: ImageList, config):
        """Names the parts.

        Args:
          out: the feature file.
          images: all images.
          config: see `fpsset.config.extraction_config`.
        """
        self.folder = out.with_name(f".{out.name}.parts")
        self._out, self._images, self._config = out, images, config
        self._size = config.batch_size * config.batches_per_part
        self.files = [self.folder / f"{start:09}.npz" for start in range(0, len(images), self._size)]

    def rows(self, file: pathlib.Path) -> range:
        """The images of a part."""
        start = int(file.stem)
        return range(start, min(start + self._size, len(self._images)))

    def any(self) -> bool:
        """Whether there is a part."""
        return any(self.folder.glob("*.npz"))

    def claim(self, recogniser: Recogniser) -> None:
        """Makes the folder, or empties it if its parts were made from other images or settings."""
        if claim(self.folder, self._fingerprint(recogniser), self._out):
            forget(self.folder)

    def claimed_by(self) -> str:
        """What the parts in the folder are made from; empty if there is no folder."""
        return claimed_by(self.folder)

    def require_claimed_by(self, fingerprint: str) -> None:
        """Raises InputError if this process does not see the folder that the first has claimed."""
        if self.claimed_by() != fingerprint:
            raise InputError(
                f"{self._out}: process {jax.process_index()} does not see what the first writes beside it; "
                "give --config.out on a file system that all processes share"
            )

    def is_valid(self, file: pathlib.Path) -> bool:
        """Whether a part is complete, and the images it lists as unreadable still are."""
        try:
            part = read_part(file)
        except InputError:  # damaged, perhaps by a power failure
            return False
        config = self._config
        views = config.augmented * config.clip_frames if config.augmented else 1 + bool(config.flip)
        rows = np.concatenate([part["rows"][::views], part["bad_rows"]])
        if not np.array_equal(np.sort(rows), self.rows(file)) or len(part["rows"]) % views:
            return False
        for row, reason in zip(part["bad_rows"], part["bad_reasons"], strict=True):
            if reason == NOT_EMBEDDED:  # the same network would say so again
                continue
            try:
                read_row(self._images, row)
            except UnreadableImage:
                continue
            return False
        return True

    def _fingerprint(self, recogniser: Recogniser) -> str:
        """A short hash of everything that the parts depend on."""
        images, config = self._images, self._config

        landmarks = b"" if images.landmarks is None else images.landmarks
        fields = (recogniser.card.digest, config.dtype, config.batch_size, config.batches_per_part)
        fields += (config.augmented, config.clip_frames, config.seed, config.flip)
        if config.augmented and style_of(config) != Style():  # so that earlier parts stay usable
            fields += style_of(config)
        states = (file_state(images.root / path, path) for path in images.paths)
        return short_digest(*states, landmarks, repr(fields))


def read_part(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the columns of a part; raises InputError if it is damaged."""
    return checked_columns(read_npz(file, tuple(_PART)), _PART, str(file), "delete it")


def read_row(images: ImageList, row: int) -> np.ndarray:
    """Reads the aligned face of a row; raises UnreadableImage."""
    landmarks = None if images.landmarks is None else images.landmarks[row]
    return read_face(images.root / images.paths[row], landmarks)
