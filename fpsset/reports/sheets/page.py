"""A coreset sheet as a self-contained HTML page."""

import io
import pathlib

import numpy as np

from fpsset.inference.advice import RULES
from fpsset.reports.pages import data_url, write_html
from fpsset.reports.sheets.colors import group_color, norm_colors, norm_ramp
from fpsset.reports.sheets.sheet import Sheet

_SHOWN = 60  # faces per pick; browsers struggle with thousands of embedded pictures
_LISTED = 500  # faces in the table


def write_page(path: pathlib.Path, sheet: Sheet) -> None:
    """Writes the page; see `pages` for what it may contain.

    Args:
      path: an .html file, replaced atomically.
      sheet: what to show.
    """
    why = sheet.why
    members = [why.members(k) for k in range(len(why.picks))]
    faces = _faces(sheet)
    shown = {i for rows in members for i in rows[: _SHOWN + 1]}
    for i in shown:
        faces[i]["image"] = _image(sheet.images[i])
    listed = [(k + 1, faces[i]) for k, rows in enumerate(members) for i in rows]
    write_html(
        path,
        "sheet.html",
        title=sheet.title,
        counts=sheet.counts(),
        model=sheet.model,
        advice=sheet.advice.lines,
        rules=RULES.sentences(),
        pictured=sheet.pictured,
        map_note=sheet.map_note,
        ramp=norm_ramp(),
        gamma=f"{why.gamma:.2g}",
        least_norm=_three(why.norms.min()),
        largest_norm=_three(why.norms.max()),
        most_attention=f"{why.attention.max():.1%}",
        faces=faces,
        picks=[_pick(sheet, k, rows, faces) for k, rows in enumerate(members)],
        listed=listed[:_LISTED],
    )


def _faces(sheet: Sheet) -> list[dict]:
    """What the page says about each face, as text; `write_page` adds the images of those shown."""
    why, colors = sheet.why, norm_colors(sheet.why.norms)
    points = 40 + 540 * sheet.places * [1, -1] + [0, 540]
    change = np.full(len(why), np.nan) if why.change is None else why.change
    most = max(why.attention.max(), 1e-9)
    return [
        {
            "name": sheet.names[i],
            "note": sheet.advice.of_face(i),
            "picked": i in why.picks,
            "image": "",
            "color": colors[i],
            "ring": group_color(int(why.nearest[i])),
            "x": f"{points[i, 0]:.1f}",
            "y": f"{points[i, 1]:.1f}",
            "bar": f"{100 * why.attention[i] / most:.0f}",
            "norm": _three(why.norms[i]),
            "cosine": f"{why.cosine[i]:.2f}",
            "attention": f"{why.attention[i]:.2%}",
            "agreement": f"{why.agreement[i]:.2f}",
            "change": "" if np.isnan(change[i]) else f"{change[i]:.4f}",
        }
        for i in range(len(why))
    ]


def _pick(sheet: Sheet, k: int, members: np.ndarray, faces: list[dict]) -> dict:
    count = len(members) - 1
    nearest = f"{count or 'no'} other face{'s' * (count != 1)} nearest to it"
    return {
        "face": faces[members[0]],
        "reason": sheet.reason(k),
        "nearest": nearest + ", most similar first" * (count > 1),
        "others": [faces[i] for i in members[1 : _SHOWN + 1]],
        "hidden": max(count - _SHOWN, 0),
    }


def _image(image: np.ndarray | None) -> str:
    if image is None:
        return ""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92)
    return data_url(buffer.getvalue(), "jpeg")


def _three(value: float) -> str:
    return f"{value:.3g}"
