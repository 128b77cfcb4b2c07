"""What the builders share: a plan of records, written in its order as ArrayRecord files."""

import abc
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import tensorflow_datasets as tfds

from fpsset.runtime.progress import StepProgress


class Plan(NamedTuple):
    """What a dataset will hold."""

    metadata: dict  # of plain values, for metadata.json
    bounds: list[int]  # the first record of each shard, and the number of records
    example: Callable[[int], dict | None]  # a record by its number; None to leave it out
    finish: Callable[[pathlib.Path], None] = lambda folder: None  # writes what lies beside the records


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """A dataset made of what lies in TFDS's `manual_dir`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The first."}
    SPLIT = "train"

    def __init__(self, *, features: str = "", file_format: str | None = None, **kwargs):
        """As every TFDS builder; `features` is a file in `manual_dir`, or anywhere, found when empty."""
        super().__init__(file_format=file_format or "array_record", **kwargs)
        self._features = features

    @abc.abstractmethod
    def checksums(self, source: pathlib.Path) -> dict[str, str]:
        """Digests by the names of what the dataset is made of.

        Args:
          source: the `manual_dir`.

        Raises:
          InputError: something is missing.
        """

    @abc.abstractmethod
    def plan(self, source: pathlib.Path) -> Plan:
        """Reads and checks the source; raises InputError where it is wrong."""

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        given = download_config.manual_dir if download_config else None
        source = pathlib.Path(given or dl_manager.manual_dir)  # the latter does without our messages
        self._plan = self.plan(source)
        self.info.metadata.update(self._plan.metadata)
        with StepProgress(self._plan.bounds[-1], 0, 1, self.name, "records") as self._progress:
            super()._download_and_prepare(dl_manager, download_config)
        self._plan.finish(pathlib.Path(self.data_dir))

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        shards = itertools.starmap(range, itertools.pairwise(self._plan.bounds))
        return {self.SPLIT: [functools.partial(self._examples, shard) for shard in shards]}

    def _examples(self, shard: range) -> Iterator[tuple[int, dict]]:
        for number in shard:
            example = self._plan.example(number)
            self._progress.advance("")
            if example is not None:
                yield number, example
