"""The few images of one set to features, without a file."""

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.images.aligned_faces import read_face, require_libraries
from fpsset.images.image_files import UnreadableImage
from fpsset.images.listing import ImageList
from fpsset.images.recognisers import load_recogniser

_BATCH = 32


def embed_images(images: ImageList, config) -> tuple[FeatureTable, list[np.ndarray], list[str]]:
    """Embeds images that fit in memory.

    Args:
      images: M images.
      config: what `load_recogniser` reads: `weights`, `dtype`, and of an ONNX file `color_order`, `mean`,
        `std`.

    Returns:
      (features of the images that can be read, these as [112, 112, 3] uint8 RGB, what was wrong with the
      others).

    Raises:
      InputError: no backbone, or no image that can be read.
    """
    require_libraries(aligns=images.landmarks is not None)
    recogniser = load_recogniser(config)
    rows, faces, problems = [], [], []
    for row, path in enumerate(images.paths):
        marks = None if images.landmarks is None else images.landmarks[row]
        try:
            faces.append(read_face(images.root / path, marks))
            rows.append(row)
        except UnreadableImage as error:
            problems.append(f"{path}: {error}")
    if not faces:
        raise InputError(f"{images.root}: no image can be read; {problems[0]}")
    size = min(_BATCH, len(faces))  # of one shape, which is compiled once
    embeddings, norms = [], []
    for start in range(0, len(faces), size):
        batch = faces[start : start + size]
        filled = np.stack(batch + [batch[-1]] * (size - len(batch)))
        found = recogniser(filled)
        embeddings.append(found[0][: len(batch)])
        norms.append(found[1][: len(batch)])
    kept = images.take(np.array(rows))
    table = FeatureTable(
        embeddings=np.concatenate(embeddings),
        norms=np.concatenate(norms),
        subject=kept.subject,
        media=kept.media,
        paths=np.array(kept.paths, str),
        backbone=recogniser.card.digest,
        name=str(images.root),
    )
    return table, faces, problems
