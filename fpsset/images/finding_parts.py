"""The parts of a search for faces, kept beside the file that it writes, so that it can be interrupted."""

import math
import pathlib
import shutil

import numpy as np

from fpsset.errors import InputError
from fpsset.images.finding import Finder, FindingOptions, Seen, Stretch
from fpsset.images.found_faces import read_part, write_part
from fpsset.images.photo_listing import Item
from fpsset.images.video import duration_of
from fpsset.runtime.digests import file_sha256, short_digest
from fpsset.runtime.disk import writing
from fpsset.runtime.kept_parts import claim, file_state
from fpsset.runtime.progress import StepProgress

_PHOTOS = 16  # in a part, of which an interruption loses at most one
_SECONDS = 30.0  # of a video in a part
_COLUMNS = {
    **{"small_item": "iu S", "small_count": "iu S", "bad_item": "iu B", "bad_reason": "U B"},
    **{"frame_item": "iu F", "frame_time": "f F", "frame_scene": "iu F"},
}


def stretches_of(items: tuple[Item, ...], rate: float) -> tuple[list[Stretch], list[int]]:
    """Divides photos and videos into what is done at a time.

    Returns:
      (stretches, in the order of the items; how many images each has, as far as is known).
    """
    stretches, counts = [], []
    number = 0
    while number < len(items):
        if not items[number].moves:
            end = number
            while end < min(len(items), number + _PHOTOS) and not items[end].moves:
                end += 1
            stretches.append(Stretch(range(number, end)))
            counts.append(end - number)
            number = end
            continue
        seconds = duration_of(items[number].path) if items[number].is_video else None
        parts = max(1, math.ceil((seconds or 0) / _SECONDS))
        for part in range(parts):
            end = np.inf if part == parts - 1 else (part + 1) * _SECONDS
            stretches.append(Stretch(range(number, number + 1), part * _SECONDS, end))
            last = max((seconds or 0) - part * _SECONDS, 1 / rate)
            counts.append(max(1, round(rate * min(_SECONDS, last))))
        number += 1
    return stretches, counts


def see_all(
    finder: Finder,
    items: tuple[Item, ...],
    options: FindingOptions,
    recogniser_digest: str,
    out: pathlib.Path | None = None,
) -> list[Seen]:
    """Looks at all photos and videos.

    Args:
      finder: looks.
      items: all of them.
      options: of the finder.
      recogniser_digest: of what embeds.
      out: a file, beside which parts are kept until `forget_parts`; None keeps none.

    Raises:
      InputError: the disk is full.
    """
    stretches, counts = stretches_of(items, options.rate)
    files = [None] * len(stretches)
    if out is not None:
        folder = _folder(out)
        claim(folder, _fingerprint(items, options, recogniser_digest), out)
        files = [folder / f"{number:09}.npz" for number in range(len(stretches))]
    kept = [None if file is None else _read(file) for file in files]
    done = sum(count for count, seen in zip(counts, kept, strict=True) if seen is not None)
    with StepProgress(sum(counts), done, 1, "faces", "images") as progress:
        found = 0
        for number, stretch in enumerate(stretches):
            if kept[number] is None:
                left = counts[number]

                def advance(steps: int) -> None:
                    nonlocal left
                    steps = min(steps, left)
                    left -= steps
                    if steps:
                        progress.advance(f"{found} faces before this part", steps)  # noqa: B023

                seen = finder.see(stretch, advance)
                if left:  # a video that is shorter than it says
                    advance(left)
                if files[number] is not None:
                    with writing(out, "the faces found so far are kept"):
                        _write(files[number], seen)
                kept[number] = seen
            found += len(kept[number].faces)
    return kept


def forget_parts(out: pathlib.Path) -> None:
    """Removes the parts beside a file that is written."""
    shutil.rmtree(_folder(out), ignore_errors=True)


def _folder(out: pathlib.Path) -> pathlib.Path:
    return out.with_name(f".{out.name}.faces")


def _fingerprint(items: tuple[Item, ...], options: FindingOptions, recogniser_digest: str) -> str:
    detector = "" if options.detector is None else file_sha256(options.detector)
    settings = (detector, recogniser_digest, options.least_side, options.rate)
    return short_digest(*(file_state(item.path, item.name) for item in items), repr(settings))


def _write(file: pathlib.Path, seen: Seen) -> None:
    small, bad, frames = (list(zip(*rows, strict=True)) for rows in (seen.small, seen.bad, seen.frames))
    small, bad, frames = small or [(), ()], bad or [(), ()], frames or [(), (), ()]
    write_part(
        file,
        seen.faces,
        small_item=np.array(small[0], np.int64),
        small_count=np.array(small[1], np.int64),
        bad_item=np.array(bad[0], np.int64),
        bad_reason=np.array(bad[1], str),
        frame_item=np.array(frames[0], np.int64),
        frame_time=np.array(frames[1], np.float64),
        frame_scene=np.array(frames[2], np.int64),
    )


def _read(file: pathlib.Path) -> Seen | None:
    """A part; None if it is missing or damaged."""
    if not file.is_file():
        return None
    try:
        faces, columns = read_part(file, _COLUMNS)
    except InputError:
        return None
    held = {name: values.tolist() for name, values in columns.items()}

    def rows(*names: str) -> list[tuple]:
        return list(zip(*(held[name] for name in names), strict=True))

    return Seen(
        faces,
        rows("small_item", "small_count"),
        rows("bad_item", "bad_reason"),
        rows("frame_item", "frame_time", "frame_scene"),
    )
