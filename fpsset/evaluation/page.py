"""The report page: one HTML file with its pictures inside, nothing to fetch and nothing to run."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from fpsset.evaluation.tables import Section
from fpsset.files import replacing
from fpsset.pages import data_url, write_html

_HEADINGS = {
    "verification": "Verification, 1:1",
    "paired": "Differences, in pairs",
    "identification": "Identification, 1:N",
    "quality": "Quality, size and video",
    "comparison": "Runs compared",
}


class Picture(NamedTuple):
    """A PNG, the section it belongs to, and what it shows."""

    path: pathlib.Path
    section: str
    caption: str

    def data(self) -> str:
        """The file as a data URL."""
        return data_url(self.path.read_bytes(), "png")


def drawn(path: pathlib.Path, section: str, caption: str, draw: Callable, *arguments) -> Picture:
    """Draws a picture: `draw` gets the path to write to, then the arguments."""
    with replacing(path) as beside:
        draw(beside, *arguments)
    return Picture(path, section, caption)


def write_page(
    path: pathlib.Path,
    title: str,
    summary: list[str],
    made: list[Section],
    pictures: list[Picture],
    facts: dict[str, str],
    config: dict[str, str],
) -> None:
    """Writes the page.

    Args:
      path: the .html.
      title: what was evaluated.
      summary: paragraphs that come first.
      made: sections, in order.
      pictures: those of a section follow its tables.
      facts: name -> value: fingerprints, versions.
      config: field -> value.
    """
    write_html(
        path,
        "report.html",
        title=title,
        summary=summary,
        sections=made,
        headings=_HEADINGS,
        pictures=pictures,
        facts=facts,
        config=config,
    )
