"""Report pages: single HTML files with their pictures inside; they load nothing and run no script."""

import base64
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from fpsset.reports.tables import Section
from fpsset.runtime.files import replacing

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


def write_html(path: pathlib.Path, template: str, **values) -> None:
    """Renders a template of `fpsset/reports/templates` into a file, beside and then renamed.

    Args:
      path: the .html.
      template: its name.
      **values: what the template shows; text in them is no markup.
    """
    html = _environment().get_template(template).render(values)
    with replacing(path) as beside:
        beside.write_text(html, encoding="utf-8")


def data_url(image: bytes, kind: str) -> str:
    """An image in the page itself.

    Args:
      image: the bytes of its file.
      kind: 'png' or 'jpeg'.
    """
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@functools.cache
def _environment():
    import jinja2  # a tenth of a second to import

    return jinja2.Environment(
        loader=jinja2.PackageLoader("fpsset.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
