"""Self-contained HTML pages: pictures are embedded, nothing is loaded, no script runs."""

import base64
import functools
import pathlib
from collections.abc import Mapping
from types import MappingProxyType

from fpsset.reports.pictures import Picture
from fpsset.reports.tables import Section
from fpsset.runtime.files import replacing

_HEADINGS = {
    "learning": "Learning",
    "verification": "Verification, 1:1",
    "paired": "Paired differences",
    "identification": "Identification, 1:N",
    "quality": "Norm, size and video",
    "comparison": "Runs compared",
}


def write_page(
    path: pathlib.Path,
    title: str,
    summary: list[str],
    made: list[Section],
    pictures: list[Picture],
    facts: dict[str, str],
    config: dict[str, str],
    headings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Writes a report page.

    Args:
      path: the .html file.
      title: what was evaluated.
      summary: opening paragraphs.
      made: sections, in order; each is followed by its pictures.
      pictures: PNG files.
      facts: name -> value: fingerprints, versions.
      config: field -> value.
      headings: of sections that only some reports have, by their names.
    """
    embedded = [(picture, data_url(picture.path.read_bytes(), "png")) for picture in pictures]
    values = {"title": title, "summary": summary, "sections": made, "facts": facts, "config": config}
    learned = [(picture, data) for picture, data in embedded if picture.section == "learning"]
    write_html(
        path, "report.html", headings={**_HEADINGS, **headings}, pictures=embedded, learned=learned, **values
    )


def write_html(path: pathlib.Path, template: str, private: bool = False, **values) -> None:
    """Renders a template of `fpsset/reports/templates`, replacing the file atomically.

    Args:
      path: the .html file.
      template: its name.
      private: see `fpsset.runtime.files.replacing`.
      **values: of the template's variables; markup in them is escaped.
    """
    html = _environment().get_template(template).render(values)
    with replacing(path, private) as partial:
        partial.write_text(html, encoding="utf-8")


def data_url(image: bytes, kind: str) -> str:
    """The bytes of an image file as a data URL; `kind` is 'png' or 'jpeg'."""
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
