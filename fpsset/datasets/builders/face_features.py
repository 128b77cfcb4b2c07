"""TFDS builder `face_features`: a feature file, with one record per person or per template."""

import pathlib
from typing import ClassVar

import tensorflow_datasets as tfds

from fpsset.data.face_lists import find_one
from fpsset.data.files import read_features
from fpsset.datasets.builders.base import Builder, Plan
from fpsset.datasets.builders.tables import table_features, table_plan
from fpsset.errors import InputError
from fpsset.runtime.digests import checksums


class FaceFeatures(Builder):
    """Face embeddings, see `table_features`; the configs are `person` and `template`."""

    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="person", description="One record per person."),
        tfds.core.BuilderConfig(name="template", description="One record per template."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "A feature file, .npz or .parquet, with the columns of docs/files.md."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Face embeddings from a backbone, with norms, people and media.",
            features=table_features(self._key),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    @property
    def _key(self) -> str:
        return {"person": "subject", "template": "template"}[self.builder_config.name]

    def checksums(self, source: pathlib.Path) -> dict[str, str]:
        """See the base."""
        return checksums(source, [self._file(source)])

    def plan(self, source: pathlib.Path) -> Plan:
        """See the base."""
        table = read_features(self._file(source))
        if getattr(table, self._key) is None:
            raise InputError(f"{table.name}: no column 'template'; prepare one record per person")
        return table_plan(table, self._key, self.checksums(source))

    def _file(self, source: pathlib.Path) -> pathlib.Path:
        if self._features:
            return source / self._features
        if file := find_one("*.npz", source) or find_one("*.parquet", source):
            return file
        raise InputError(f"{source}: has no feature file; put an .npz or .parquet there")
