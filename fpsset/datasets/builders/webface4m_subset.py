"""TFDS builder `webface4m_subset`: aligned crops of randomly drawn people, from a folder or a pack."""

import dataclasses
import functools
import io
import pathlib
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fpsset.datasets.builders.base import Builder, Plan
from fpsset.datasets.prepared import write_image_index
from fpsset.datasets.sources import open_images
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage
from fpsset.images.image_sources import read_crop
from fpsset.runtime.progress import StepProgress

_SHARD_IMAGES = 8192  # about 64 MB, which TFDS keeps in memory while writing a shard
_SIZE = 112


@dataclasses.dataclass(eq=False)
class SubsetConfig(tfds.core.BuilderConfig):
    """How many people to draw, and the random seed."""

    people: int = 10_000
    seed: int = 0


@functools.cache  # TFDS requires the identical object for configs of the same name
def subset_config(people: int, seed: int) -> SubsetConfig:
    """A config that is named after both of its fields."""
    description = f"{people} people, drawn by the seed {seed}."
    return SubsetConfig(name=f"{people}_seed{seed}", description=description, people=people, seed=seed)


class Webface4mSubset(Builder):
    """One record per image, so that training reads only the images it draws."""

    BUILDER_CONFIGS: ClassVar = [subset_config(10_000, 0)]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "A folder per person with aligned crops of 112 x 112 pixels, or an InsightFace pack of them "
        "(train.rec, train.idx). WebFace4M is available on request, for research only."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Aligned face crops of randomly drawn people, person by person.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIZE, _SIZE, 3)),
                    "subject": np.int64,
                    "media": np.int64,
                    "row": np.int64,  # its number in the source
                }
            ),
            citation="""@inproceedings{zhu2021webface260m,
  title     = {{WebFace260M}: A Benchmark Unveiling the Power of Million-Scale Deep Face Recognition},
  author    = {Zhu, Zheng and Huang, Guan and Deng, Jiankang and Ye, Yun and Huang, Junjie and others},
  booktitle = {CVPR},
  year      = {2021}
}""",
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def checksums(self, source: pathlib.Path) -> dict[str, str]:
        """See the base; covers names and sizes, or a pack's index, but not the images themselves."""
        return {"images": open_images(source).fingerprint()}

    def plan(self, source: pathlib.Path) -> Plan:
        """See the base; draws the people. Unreadable images are reported and left out."""
        images = open_images(source)
        wanted, seed = self.builder_config.people, self.builder_config.seed
        people = np.unique(images.subject)
        if len(people) < wanted:
            raise InputError(
                f"{images.name}: has {len(people)} people, fewer than {wanted}; give "
                f"--config.people={len(people)}"
            )
        drawn = np.sort(np.random.default_rng([seed, len(people)]).permutation(people)[:wanted])
        rows = np.flatnonzero(np.isin(images.subject, drawn))
        rows = rows[np.argsort(images.subject[rows], kind="stable")]
        kept, left_out = [], {}

        def example(number: int) -> dict | None:
            row = int(rows[number])
            try:
                read_crop(images, row, _SIZE)
            except UnreadableImage as error:
                left_out[images.place(row)] = str(error)
                StepProgress.say(f"{images.place(row)}: {error}; left out")
                return None
            kept.append(row)
            image = io.BytesIO(images.read(row))
            return {"image": image, "subject": images.subject[row], "media": images.media[row], "row": row}

        metadata = {
            "sources": {"images": images.fingerprint()},
            "people": wanted,
            "seed": seed,
            "subjects": drawn.tolist(),
            "left_out": left_out,
        }
        return Plan(
            metadata,
            [*range(0, len(rows), _SHARD_IMAGES), len(rows)],
            example,
            lambda folder: write_image_index(folder, images.subject[kept], images.media[kept]),
        )
