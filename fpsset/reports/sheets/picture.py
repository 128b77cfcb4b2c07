"""A coreset sheet as a PNG."""

import pathlib

from fpsset.reports.plots import write_png
from fpsset.reports.sheets.colors import group_color, norm_colors
from fpsset.reports.sheets.sheet import Sheet
from fpsset.runtime.escapes import plot_text
from fpsset.runtime.files import replacing

_COLUMNS = 8  # small faces per row
_SHOWN = 24  # small faces per pick
_INK, _SOFT, _WARN = "#1d2530", "#5b6673", "#8a3b00"


def draw_picture(path: pathlib.Path, sheet: Sheet) -> None:
    """Draws the picks in a column, each with the faces nearest to it, or a map if there are no images.

    Args:
      path: a .png file, replaced atomically.
      sheet: what to show.
    """
    from matplotlib.figure import Figure  # takes a second to import

    figure = _faces(Figure, sheet) if sheet.pictured else _map(Figure, sheet)
    with replacing(path) as partial:
        write_png(figure, partial)


def _faces(make, sheet: Sheet):
    why, colors = sheet.why, norm_colors(sheet.why.norms)
    shown = [why.members(k)[1 : _SHOWN + 1] for k in range(len(why.picks))]
    heights = [max(2, -(-len(rows) // _COLUMNS)) * 1.02 + 0.55 for rows in shown]
    width, height = 11.0, sum(heights) + 0.9
    figure = make(figsize=(width, height), dpi=120, facecolor="white")

    def write(x, y, text, **style):
        style = {"color": _INK, "fontsize": 10, **style}
        figure.text(x / width, 1 - y / height, plot_text(text), va="top", **style)

    def show(i, x, y, side, line):
        axes = figure.add_axes((x / width, 1 - (y + side) / height, side / width, side / height))
        if sheet.images[i] is not None:
            axes.imshow(sheet.images[i], interpolation="bilinear")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=colors[i], linewidth=line)
        share = why.attention[i] / max(why.attention.max(), 1e-9)
        bar = figure.add_axes(
            (x / width, 1 - (y + side + 0.1) / height, side / width, 0.055 / height), frameon=False
        )
        bar.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
        bar.axhspan(0, 1, color="#e6eaee", linewidth=0)
        bar.axhspan(0, 1, xmax=share, color="#0072b2", linewidth=0)

    write(0.3, 0.18, sheet.title, fontsize=15, weight="bold")
    write(0.3, 0.5, f"{sheet.counts()}; border: norm, dark low to yellow high; bar: attention", color=_SOFT)
    top = 0.95
    for k, rows in enumerate(shown):
        pick = why.picks[k]
        show(pick, 0.3, top, 2.05, 5)
        write(
            2.6, top, f" {k + 1} ", color="white", weight="bold", fontsize=11, backgroundcolor=group_color(k)
        )
        more = len(why.members(k)) - 1 - len(rows)
        title = f"{sheet.names[pick]}: {sheet.reason(k)}" + (f"; {more} more not shown" if more else "")
        write(2.95, top, title)
        note = sheet.advice.of_face(pick)
        if not len(rows):
            write(2.6, top + 0.4, note or "nearest to no other face", color=_WARN if note else _SOFT)
        elif note:
            write(0.3, top + 2.2, note, color=_WARN, fontsize=8)
        for number, i in enumerate(rows):
            show(i, 2.6 + 1.02 * (number % _COLUMNS), top + 0.36 + 1.02 * (number // _COLUMNS), 0.86, 3)
        top += heights[k]
    return figure


def _map(make, sheet: Sheet):
    why = sheet.why
    figure = make(figsize=(7, 7), dpi=120, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.scatter(
        *sheet.places.T,
        s=70,
        c=norm_colors(why.norms),
        edgecolors=[group_color(int(k)) for k in why.nearest],
        linewidths=1.8,
    )
    for k, pick in enumerate(why.picks):
        axes.scatter(
            *sheet.places[pick], s=330, c=group_color(k), edgecolors="white", linewidths=1.5, zorder=3
        )
        axes.annotate(
            str(k + 1), sheet.places[pick], color="white", weight="bold", ha="center", va="center", zorder=4
        )
    axes.set(xticks=[], yticks=[], xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), aspect="equal")
    for spine in axes.spines.values():
        spine.set_color("#dfe4ea")
    axes.set_title(plot_text(f"{sheet.title}: {sheet.counts()}"), loc="left", color=_INK)
    axes.set_xlabel(
        f"{sheet.map_note}\nRing: nearest pick; fill: norm, dark low to yellow high.", color=_SOFT
    )
    return figure
