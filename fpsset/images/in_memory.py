"""Embeds a few images in memory, without writing a feature file."""

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, read_face, require_libraries
from fpsset.images.listing import ImageList
from fpsset.images.recognisers import NOT_EMBEDDED, embedded, load_recogniser

_BATCH_SIZE = 32


def embed_images(images: ImageList, config) -> tuple[FeatureTable, list[np.ndarray], list[str]]:
    """Embeds images that fit in memory.

    Args:
      images: M images.
      config: the fields that `load_recogniser` reads: `weights`, `dtype`, and for an ONNX file `color_order`,
        `mean` and `std`.

    Returns:
      (features of the readable images, these images as [112, 112, 3] uint8 RGB, one message for each
      unreadable image).

    Raises:
      InputError: there is no backbone, or no image can be read.
    """
    require_libraries(aligns=images.landmarks is not None)
    recogniser = load_recogniser(config)
    rows, faces, problems = [], [], []
    for row, path in enumerate(images.paths):
        landmarks = None if images.landmarks is None else images.landmarks[row]
        try:
            faces.append(read_face(images.root / path, landmarks))
            rows.append(row)
        except UnreadableImage as error:
            problems.append(f"{path}: {error}")
    if not faces:
        raise InputError(f"{images.root}: no image can be read; {problems[0]}")
    size = min(_BATCH_SIZE, len(faces))  # one shape for all batches, so that they compile once
    embeddings, norms = [], []
    for start in range(0, len(faces), size):
        batch = faces[start : start + size]
        filled = np.stack(batch + [batch[-1]] * (size - len(batch)))
        points = None if images.landmarks is None else images.landmarks[rows[start : start + size]]
        points = recogniser.keypoints(points)
        batch_embeddings, batch_norms = recogniser(filled, keypoints=points)
        embeddings.append(batch_embeddings[: len(batch)])
        norms.append(batch_norms[: len(batch)])
    vectors, lengths = np.concatenate(embeddings), np.concatenate(norms)
    good = embedded(vectors, lengths)
    problems += [f"{images.paths[rows[place]]}: {NOT_EMBEDDED}" for place in np.flatnonzero(~good)]
    if not good.any():
        raise InputError(f"{images.root}: no image can be embedded; {problems[-1]}")
    faces = [face for face, kept in zip(faces, good, strict=True) if kept]
    kept = images.take(np.array(rows)[good])
    table = FeatureTable(
        embeddings=vectors[good],
        norms=lengths[good],
        subject=kept.subject,
        media=kept.media,
        paths=np.array(kept.paths, str),
        backbone=recogniser.card.digest,
        name=str(images.root),
    )
    return table, faces, problems
