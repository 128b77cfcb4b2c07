"""Folders of reports, replaced as a whole."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from fpsset.reports.draws_file import DRAWS
from fpsset.reports.forms import FORMS
from fpsset.runtime.disk import writing
from fpsset.runtime.files import replacing_folder

_TABLES = ("verification", "paired", "identification", "quality", "comparison")
_PICTURES = (
    *("roc", "det", "cmc", "dir", "discard_input_norm", "discard_output_norm"),
    *("size", "video", "differences"),
)
_PAGE, _PREFIX = "index.html", ".report."


def _files(tables: tuple[str, ...], pictures: tuple[str, ...]) -> frozenset[str]:
    """The files that a report may have."""
    return frozenset(
        [
            *(_PAGE, DRAWS),
            *(f"{table}.{form}" for table in (*_TABLES, *tables) for form in FORMS),
            *(f"{picture}.png" for picture in (*_PICTURES, *pictures)),
        ]
    )


@contextlib.contextmanager
def replacing_report(
    folder: pathlib.Path, kept: str = "", others: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
) -> Iterator[pathlib.Path]:
    """Yields an empty temporary folder, whose files replace the report in `folder` if the block succeeds.

    A folder that holds a report alone is swapped. Where the user keeps other files, those stay, and the files
    of the report are renamed into it one by one, the page last.

    Args:
      folder: of the report; created if missing.
      kept: what is kept if the report cannot be written, for the error message.
      others: names of tables and of pictures that the report may have beside the usual ones.

    Raises:
      InputError: the disk is full, or the folder cannot be written to.
    """
    ours = _files(*others)
    if folder.exists():
        kept = f"{kept}{', and ' * bool(kept)}the report from before is kept"
    with writing(folder, kept):
        if not folder.exists() or _may_be_swapped(folder, ours):
            with replacing_folder(folder) as beside:
                yield beside
            return
        for leftover in folder.glob(f"{_PREFIX}*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as name:
            beside = pathlib.Path(name)
            yield beside
            made = sorted((file.name for file in beside.iterdir()), key=lambda file: (file == _PAGE, file))
            for stale in ours.difference(made):
                (folder / stale).unlink(missing_ok=True)
            for file in made:
                os.replace(beside / file, folder / file)


def _may_be_swapped(folder: pathlib.Path, ours: frozenset[str]) -> bool:
    """Whether a folder holds a report alone, and nobody would miss the folder itself."""
    absolute, here = folder.absolute(), pathlib.Path.cwd()
    if folder.is_symlink() or os.path.ismount(folder) or absolute.resolve() in (here, *here.parents):
        return False
    return all(entry.name in ours for entry in folder.iterdir())
