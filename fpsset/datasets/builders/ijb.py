"""TFDS builders `ijbb` and `ijbc`: the protocols of IJB-B and IJB-C, with one record per template."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

from fpsset.data.ijb import ijb_files, read_ijb
from fpsset.data.pair_lists import read_pairs, template_places
from fpsset.datasets.builders.base import Builder, Plan
from fpsset.datasets.builders.tables import table_features, table_plan
from fpsset.datasets.prepared import write_protocol
from fpsset.errors import InputError
from fpsset.runtime.digests import checksums


class IjbBuilder(Builder, skip_registration=True):
    """One record per template, see `table_features`; pairs and 1:N lists are stored next to the records."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The official folder: meta/ with *_face_tid_mid.txt, *_template_pair_label.txt and *_1N_*.csv, and "
        "the features of the faces in a file *features*. The lists come with IJB from NIST, and with "
        "InsightFace's IJB release; neither is freely available any more."
    )
    SPLIT = "test"
    TITLE = CITATION = ""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.TITLE}: face embeddings, template by template, and the protocol.",
            features=table_features("template"),
            citation=self.CITATION,
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def checksums(self, source: pathlib.Path) -> dict[str, str]:
        """See the base."""
        return checksums(source, ijb_files(source, self._features))

    def plan(self, source: pathlib.Path) -> Plan:
        """See the base."""
        lists = ijb_files(source, self._features)[0]
        if lists.name.startswith("ijb") and not lists.name.startswith(self.name):
            name = lists.name.partition("_")[0]
            raise InputError(f"{lists}: is not from {self.TITLE}; give --config configs/prepare.py:{name}")
        ijb = read_ijb(source, self._features)
        pairs = read_pairs(ijb.pairs_file)
        template_places(pairs, np.unique(ijb.table.template), ijb.pairs_file)
        plan = table_plan(ijb.table, "template", self.checksums(source))
        return plan._replace(
            metadata={
                **plan.metadata,
                "pairs": len(pairs.same),
                "galleries": list(ijb.search.galleries) if ijb.search else [],
                "note": ijb.note,
            },
            finish=lambda folder: write_protocol(folder, pairs, ijb.search),
        )


class Ijbb(IjbBuilder):
    """IJB-B."""

    TITLE = "IJB-B"
    CITATION = """@inproceedings{whitelam2017iarpa,
  title     = {{IARPA} {Janus} Benchmark-{B} Face Dataset},
  author    = {Whitelam, Cameron and Taborsky, Emma and Blanton, Austin and Maze, Brianna and others},
  booktitle = {CVPR Workshops},
  year      = {2017}
}"""


class Ijbc(IjbBuilder):
    """IJB-C."""

    TITLE = "IJB-C"
    CITATION = """@inproceedings{maze2018iarpa,
  title     = {{IARPA} {Janus} Benchmark-{C}: Face Dataset and Protocol},
  author    = {Maze, Brianna and Adams, Jocelyn and Duncan, James A. and Kalka, Nathan and others},
  booktitle = {International Conference on Biometrics},
  year      = {2018}
}"""
