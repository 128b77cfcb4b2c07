"""A coreset sheet as one HTML page that needs nothing else."""

import base64
import html
import io
import pathlib

import numpy as np

from fpsset.advice import RULES
from fpsset.files import replacing
from fpsset.sheets.colors import group_color, quality_colors, quality_ramp
from fpsset.sheets.sheet import Sheet

_SHOWN = 60  # faces a pick; a page of thousands of pictures would not open
_LISTED = 500  # faces in the table
_STYLE = """
:root { color-scheme: light; --ink: #1d2530; --soft: #5b6673; --line: #dfe4ea; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 48px; color: var(--ink);
  background: #fff; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: .9rem; margin: 0; overflow-wrap: anywhere; }
ul.advice { margin: 18px 0 20px; padding: 14px 18px 14px 36px; background: #f3f6f9; border-radius: 10px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 22px; align-items: center; margin: 0 0 8px; }
.ramp { display: inline-block; width: 90px; height: 10px; border-radius: 5px; margin: 0 6px; }
section.pick { border-top: 1px solid var(--line); padding: 20px 0; display: grid;
  grid-template-columns: 236px 1fr; gap: 24px; }
.large { width: 100%; border-radius: 12px; border: 6px solid; display: block; background: #eef1f4; }
.number { display: inline-block; min-width: 30px; height: 30px; line-height: 30px; border-radius: 15px;
  text-align: center; color: #fff; font-weight: 700; margin-right: 8px; padding: 0 8px; }
.faces { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 12px; }
.face { width: 96px; font-size: .74rem; line-height: 1.3; color: var(--soft); overflow-wrap: anywhere; }
.face img, .face .none { width: 96px; height: 96px; border-radius: 9px; border: 4px solid; display: block;
  background: #eef1f4; }
.bar { height: 7px; background: #e6eaee; border-radius: 4px; margin: 5px 0 3px; overflow: hidden; }
.bar i { display: block; height: 100%; background: #0072b2; }
.face b, .note { color: #8a3b00; display: block; font-weight: 700; margin: 0; }
svg { width: 100%; max-width: 620px; height: auto; display: block; margin: 8px 0; }
svg text { font: 600 15px system-ui, sans-serif; }
details { border-top: 1px solid var(--line); padding: 14px 0; }
summary { cursor: pointer; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin-top: 8px; }
td, th { padding: 3px 14px 3px 0; text-align: right; white-space: nowrap; }
td:first-child, th:first-child, td:last-child { text-align: left; }
@media (max-width: 640px) {
  body { padding: 18px 14px 40px; }
  section.pick { grid-template-columns: 1fr; gap: 12px; }
  section.pick > div:first-child { max-width: 236px; }
  .face, .face img, .face .none { width: 82px; }
  .face img, .face .none { height: 82px; }
}
@media print { section.pick { break-inside: avoid; } }
"""


def write_page(path: pathlib.Path, sheet: Sheet) -> None:
    """Writes the page, beside and then renamed.

    Args:
      path: an .html file.
      sheet: what to show.
    """
    with replacing(path) as beside:
        beside.write_text(as_page(sheet), encoding="utf-8")


def as_page(sheet: Sheet) -> str:
    """The page as text: images and style are in it, and nothing is loaded or run."""
    colors = quality_colors(sheet.why.norms)
    title = html.escape(sheet.title)
    advice = "".join(f"<li>{html.escape(line)}</li>" for line in sheet.advice.lines)
    picks = "".join(_pick(sheet, k, colors) for k in range(len(sheet.why.picks)))
    rules = "".join(f"<li>{html.escape(line)}</li>" for line in RULES.sentences())
    figure = _map(sheet, colors)
    if sheet.pictured:
        figure = f"<details><summary>Map of the set</summary>{figure}</details>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Coreset of {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p class="soft">{sheet.counts()} &middot; {html.escape(sheet.model)}</p>
<ul class="advice">{advice}</ul>
<div class="legend soft"><span>border: norm, {_three(sheet.why.norms.min())}
<i class="ramp" style="background:linear-gradient(90deg,{quality_ramp()})"></i>{_three(sheet.why.norms.max())}
</span><span>bar: share of attention, full at {sheet.why.attention.max():.1%}</span></div>
{"" if sheet.pictured else figure}{picks}{figure if sheet.pictured else ""}
<details><summary>Every face in numbers</summary>{_numbers(sheet)}</details>
<details><summary>What the words mean</summary><ul class="soft">{rules}
<li>The first pick has the largest norm; each further one is the face farthest from the picks before it,
where the distance is (1 - cosine) / 2 times norm^{sheet.why.gamma:.2g}. Picks know nothing of clips.</li>
<li>Attention is what each face counts for in what the picks draw from the set, a mean over picks and heads; a
trained model adds the picks themselves to that. Change is 1 - cosine of the descriptors with and without a
face.</li></ul></details>
</body></html>
"""


def _pick(sheet: Sheet, k: int, colors: list[str]) -> str:
    why, pick = sheet.why, sheet.why.picks[k]
    members = why.members(k)
    others = "".join(_face(sheet, i, colors) for i in members[1 : _SHOWN + 1])
    if len(members) > _SHOWN + 1:
        others += f'<div class="face">and {len(members) - _SHOWN - 1} more</div>'
    count = len(members) - 1
    stands = f"{count or 'no'} other face{'s' * (count != 1)} nearest to it" + ", the most alike first" * (
        count > 1
    )
    note = sheet.advice.of_face(pick)
    note = f'<p class="note">{html.escape(note)}</p>' if note else ""
    image = _image(sheet, pick, colors, "large")
    number = f'<span class="number" style="background:{group_color(k)}">{k + 1}</span>'
    return f"""<section class="pick"><div>{image}{_bar(sheet, pick)}
<p class="soft">attention {why.attention[pick]:.1%}, norm {_three(why.norms[pick])}{_change(sheet, pick)}</p>
</div><div><h2>{number}{html.escape(sheet.names[pick])}</h2>
<p class="soft">{sheet.reason(k)} &middot; {stands}</p>{note}<div class="faces">{others}</div></div></section>
"""


def _face(sheet: Sheet, i: int, colors: list[str]) -> str:
    note = sheet.advice.of_face(i)
    note = f"<b>{html.escape(note)}</b>" if note else ""
    return (
        f'<div class="face">{_image(sheet, i, colors, "")}{_bar(sheet, i)}{html.escape(sheet.names[i])}'
        f"<br>cosine {sheet.why.cosine[i]:.2f}{note}</div>"
    )


def _image(sheet: Sheet, i: int, colors: list[str], style: str) -> str:
    image = sheet.images[i]
    if image is None:
        return "" if style else f'<div class="none" style="border-color:{colors[i]}"></div>'
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img class="{style}" style="border-color:{colors[i]}" alt="{html.escape(sheet.names[i])}" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def _bar(sheet: Sheet, i: int) -> str:
    share = sheet.why.attention[i] / max(sheet.why.attention.max(), 1e-9)
    return f'<div class="bar"><i style="width:{100 * share:.0f}%"></i></div>'


def _change(sheet: Sheet, i: int) -> str:
    change = sheet.why.change
    return "" if change is None or np.isnan(change[i]) else f", change {change[i]:.4f}"


def _three(value: float) -> str:
    return f"{value:.3g}"


def _map(sheet: Sheet, colors: list[str]) -> str:
    """The faces on their two main directions; ring by pick, fill by norm, picks numbered."""
    points = 40 + 540 * sheet.places * [1, -1] + [0, 540]
    marks = []
    for i, (x, y) in enumerate(points):
        ring, name = group_color(int(sheet.why.nearest[i])), html.escape(sheet.names[i])
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{colors[i]}" stroke="{ring}" stroke-width="3">'
            f"<title>{name}</title></circle>"
        )
    for k, pick in enumerate(sheet.why.picks):
        x, y = points[pick]
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="17" fill="{group_color(k)}" stroke="#fff"/>'
            f'<text x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle" fill="#fff">{k + 1}</text>'
        )
    return (
        '<svg viewBox="0 0 620 620" role="img" aria-label="map of the set">'
        '<rect x="1" y="1" width="618" height="618" rx="12" fill="none" stroke="#dfe4ea"/>'
        f"{''.join(marks)}</svg>"
        '<p class="soft">The two main directions of the embeddings (PCA). Ring: the nearest pick.</p>'
    )


def _numbers(sheet: Sheet) -> str:
    why, rows = sheet.why, []
    for k in range(len(why.picks)):
        for i in why.members(k):
            change = "" if why.change is None or np.isnan(why.change[i]) else f"{why.change[i]:.4f}"
            note = "pick" if i == why.picks[k] else html.escape(sheet.advice.of_face(i))
            cells = (html.escape(sheet.names[i]), k + 1, f"{why.cosine[i]:.2f}", _three(why.norms[i]))
            cells += (f"{why.attention[i]:.2%}", change, f"{why.agreement[i]:.2f}", note)
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = ("face", "pick", "cosine", "norm", "attention", "change", "to the others", "")
    more = f'<p class="soft">and {len(rows) - _LISTED} more</p>' if len(rows) > _LISTED else ""
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows[:_LISTED])}</table>{more}</div>'
