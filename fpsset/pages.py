"""Pages: one HTML file each, from a template that escapes; nothing to fetch and nothing to run."""

import base64
import functools
import pathlib

from fpsset.files import replacing


def write_html(path: pathlib.Path, template: str, **values) -> None:
    """Renders a template of `fpsset/templates` into a file, beside and then renamed.

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
        loader=jinja2.PackageLoader("fpsset"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
