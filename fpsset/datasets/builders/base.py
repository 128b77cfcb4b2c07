"""The base of the TFDS builders: writes planned records, in order, as ArrayRecord files."""

import abc
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import tensorflow_datasets as tfds

from fpsset.datasets.trust import write_checksums
from fpsset.runtime.progress import StepProgress


class Plan(NamedTuple):
    """The planned contents of a dataset."""

    metadata: dict  # plain values, for metadata.json
    bounds: list[int]  # the first record of each shard, then the number of records
    example: Callable[[int], dict | None]  # maps a record's number to the record; None omits it
    finish: Callable[[pathlib.Path], None] = lambda folder: None  # writes further files next to the records


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """A dataset prepared from the files in TFDS's `manual_dir`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    SPLIT = "train"

    def __init__(self, *, features: str = "", file_format: str | None = None, **kwargs):
        """Takes the arguments of every TFDS builder, and a feature file.

        Args:
          features: path of the feature file, absolute or in `manual_dir`; found by its name if empty.
          file_format: ArrayRecord by default.
          **kwargs: see `tfds.core.DatasetBuilder`.
        """
        super().__init__(file_format=file_format or "array_record", **kwargs)
        self._features = features

    @abc.abstractmethod
    def checksums(self, source: pathlib.Path) -> dict[str, str]:
        """Digests of the source files, by name.

        Args:
          source: the `manual_dir`.

        Raises:
          InputError: a file is missing.
        """

    @abc.abstractmethod
    def plan(self, source: pathlib.Path) -> Plan:
        """Reads and checks the source; raises InputError if it is malformed."""

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        given = download_config.manual_dir if download_config else None
        source = pathlib.Path(given or dl_manager.manual_dir)  # dl_manager would raise TFDS's own error
        self._plan = self.plan(source)
        self.info.metadata.update(self._plan.metadata)
        with StepProgress(self._plan.bounds[-1], 0, 1, self.name, "records") as self._progress:
            super()._download_and_prepare(dl_manager, download_config)
        self._plan.finish(pathlib.Path(self.data_dir))
        # TFDS does these two next, and again gives the same bytes, of which the checksums are.
        self.info.download_size = dl_manager.downloaded_size
        self.info.write_to_directory(self.data_dir)
        write_checksums(pathlib.Path(self.data_dir))

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        shards = itertools.starmap(range, itertools.pairwise(self._plan.bounds))
        return {self.SPLIT: [functools.partial(self._examples, shard) for shard in shards]}

    def _examples(self, shard: range) -> Iterator[tuple[int, dict]]:
        for number in shard:
            example = self._plan.example(number)
            self._progress.advance("")
            if example is not None:
                yield number, example
