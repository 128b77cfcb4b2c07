"""TFDS builder `webface4m_subset`: aligned crops of people drawn from a folder or a pack."""

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
from fpsset.images.image_files import UnreadableImage
from fpsset.images.image_sources import read_crop
from fpsset.runtime.progress import StepProgress

_SHARD_IMAGES = 8192  # some 64 MB, which TFDS holds in memory while it writes them
_SIZE = 112


@dataclasses.dataclass(eq=False)
class SubsetConfig(tfds.core.BuilderConfig):
    """Which people: `people` of them, drawn by `seed`."""

    people: int = 10_000
    seed: int = 0


@functools.cache  # TFDS wants its own config back where the names are equal
def subset_config(people: int, seed: int) -> SubsetConfig:
    """The config whose name says both."""
    description = f"{people} people, drawn by the seed {seed}."
    return SubsetConfig(name=f"{people}_seed{seed}", description=description, people=people, seed=seed)


class Webface4mSubset(Builder):
    """A record an image: training draws a few of a person's at random, and reads no others."""

    BUILDER_CONFIGS: ClassVar = [subset_config(10_000, 0)]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "A folder per person with aligned crops of 112 x 112 pixels, or an InsightFace pack of them "
        "(train.rec, train.idx). WebFace4M is handed out on request, for research alone."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Aligned crops of faces of people that a seed drew, person by person.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIZE, _SIZE, 3)),
                    "subject": np.int64,
                    "media": np.int64,
                    "row": np.int64,  # its place in the source
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
        """Of names and sizes, or of a pack's index: the images' bytes may be hundreds of gigabytes."""
        return {"images": open_images(source).fingerprint()}

    def plan(self, source: pathlib.Path) -> Plan:
        """Draws the people; images that cannot be read are said and left out."""
        images = open_images(source)
        wanted, seed = self.builder_config.people, self.builder_config.seed
        people = np.unique(images.subject)
        if len(people) < wanted:
            raise InputError(
                f"{images.name}: shows {len(people)} people, fewer than {wanted}; give "
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
