"""Writes folders of test images."""

import pathlib

import numpy as np
from PIL import Image

from fpsset.images.aligned_faces import ARCFACE_112


def picture(seed: int, size: int = 112) -> Image.Image:
    """A smooth random image."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def write_people(root: pathlib.Path, people: int = 3, each: int = 3) -> None:
    for person in range(people):
        folder = root / f"person_{person}"
        folder.mkdir(parents=True)
        for i in range(each):
            picture(10 * person + i).save(folder / f"still_{i}.png")


def write_ijb(root: pathlib.Path, csv: bool = True) -> pathlib.Path:
    """Writes three images of two templates in IJB's official layout; returns the folder of images."""
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    marks = " ".join(f"{v:.3f}" for v in (ARCFACE_112 * 2).ravel())
    lines = "".join(f"{i}.jpg {marks} 0.99\n" for i in (1, 2, 3))
    (root / "meta/ijbc_name_5pts_score.txt").write_text(lines)
    (root / "meta/ijbc_face_tid_mid.txt").write_text("1.jpg 7 70\n2.jpg 7 71\n3.jpg 9 72\n")
    if csv:
        (root / "meta/ijbc_1N_gallery_G1.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n7,500,x\n")
        (root / "meta/ijbc_1N_probe_mixed.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n9,501,x\n")
    for i in (1, 2, 3):
        picture(i, 224).save(root / f"loose_crop/{i}.jpg")
    return root / "loose_crop"
