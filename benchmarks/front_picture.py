"""Draws a set, its picks and its descriptor by a trained model, in drawn faces, and its sheet.

python benchmarks/front_picture.py runs/quickstart [--out benchmarks/pictures/front.png]

The embeddings are synthetic, of 1,000 people not seen in training. Every second medium of a person goes into
the set, and the others into the gallery that its descriptor is looked up in. The picture shows the first set
of 18 faces, with at least three stills, whose picks come from three media. Each face is drawn with the image
quality that its embedding has. `sheet.png`, the first picture of the README, is the sheet of `fpsset select`.
"""

import argparse
import pathlib

import numpy as np
from drawn_faces import draw_face
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

import fpsset
from fpsset.data.synthetic import make_synthetic
from fpsset.inference.advice import advise
from fpsset.reports.sheets.colors import group_color, norm_colors
from fpsset.reports.sheets.maps import place as place_faces
from fpsset.reports.sheets.picture import draw_picture
from fpsset.reports.sheets.sheet import Sheet

_INK, _SOFT, _FACES, _COLUMNS = "#1d2530", "#5b6673", 18, 6
_WIDTH, _HEIGHT = 12.0, 4.55


def find_set(model: fpsset.Aggregator):
    """Finds the set to show.

    Returns:
      (table of M faces, [M] cosine of each to its clean image, rows of the set, its person, [M] bool, which
      faces are in sets and not in the gallery).
    """
    table, clean = make_synthetic(1000, seed=2024, dim=model.dim)
    people, first = np.unique(table.subject), np.zeros(len(table), bool)
    for person in people:
        media = np.unique(table.media[table.subject == person])
        first |= (table.subject == person) & np.isin(table.media, media[::2])
    for person in people:
        rows = np.flatnonzero(first & (table.subject == person))
        lengths = np.unique(table.media[rows], return_counts=True)[1]
        if len(rows) == _FACES and (lengths == 1).sum() >= 3:
            media = table.media[rows]
            explanation = model.explain(
                table.embeddings[rows], table.norms[rows], media=media, leave_one_out=False
            )
            picks = explanation.picks
            sharp = clean[rows[picks]].min() > 0.7  # a blurred pick would need explaining
            if sharp and len(np.unique(media[picks])) == len(picks):
                return table, clean, rows, person, first
    raise SystemExit("no person has such a set; change the seed")


def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workdir")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/pictures/front.png"))
    arguments = parser.parse_args()
    model = fpsset.load(arguments.workdir)
    table, clean, rows, person, first = find_set(model)
    explanation = model.explain(table.embeddings[rows], table.norms[rows], media=table.media[rows])
    others = table.take(~first)
    gallery = model.aggregate(others.embeddings, others.norms, others.subject, media=others.media)
    cosines = gallery.descriptors @ explanation.descriptor
    ids = gallery.ids
    mate, next_best = cosines[ids == person][0], cosines[ids != person].max()
    rank = 1 + int((cosines > mate).sum())
    images = [
        draw_face(int(m), i, (c - 0.1) / 0.85)
        for i, (m, c) in enumerate(zip(table.media[rows], clean[rows], strict=True))
    ]
    names = [
        f"{'photo' if (table.media[rows] == m).sum() == 1 else 'video'} {m - table.media[rows].min() + 1}"
        for m in table.media[rows]
    ]
    advice = advise(explanation, table.embeddings[rows], names)
    places = place_faces(table.embeddings[rows], "pca")
    sheet = Sheet("anna", model.name, explanation, advice, names, images, *places)
    draw_picture(arguments.out.with_name("sheet.png"), sheet)

    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=160, facecolor="white")

    def axes_at(x, y, width, height, **style):
        where = (x / _WIDTH, 1 - (y + height) / _HEIGHT, width / _WIDTH, height / _HEIGHT)
        axes = figure.add_axes(where, **style)
        axes.set(xticks=[], yticks=[])
        return axes

    def write(x, y, text, **style):
        style = {"color": _INK, "fontsize": 9.5, "va": "top", **style}
        figure.text(x / _WIDTH, 1 - y / _HEIGHT, text, **style)

    def show(i, x, y, side, line, color):
        axes = axes_at(x, y, side, side)
        axes.imshow(images[i], interpolation="antialiased")
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=line)
        bar = axes_at(x, y + side + 0.06, side, 0.055, frameon=False, xlim=(0, 1), ylim=(0, 1))
        bar.axhspan(0, 1, color="#e6eaee", linewidth=0)
        bar.axhspan(
            0, 1, xmax=explanation.attention[i] / explanation.attention.max(), color="#0072b2", linewidth=0
        )

    def badge(x, y, k):
        style = {"boxstyle": "circle,pad=0.28", "facecolor": group_color(k), "edgecolor": "white"}
        write(
            x, y, str(k + 1), color="white", weight="bold", fontsize=9, bbox=style, ha="center", va="center"
        )

    def arrow(x, y):
        ends = [((x + dx) / _WIDTH, 1 - y / _HEIGHT) for dx in (0, 0.42)]
        style = {"arrowstyle": "-|>", "mutation_scale": 18, "color": _SOFT, "linewidth": 2}
        figure.add_artist(FancyArrowPatch(*ends, transform=figure.transFigure, **style))

    colors, picks, step = norm_colors(explanation.norms), explanation.picks.tolist(), 0.88
    lengths = np.unique(table.media[rows], return_counts=True)[1]
    write(0.3, 0.22, f"{len(rows)} faces of one person", fontsize=13, weight="bold")
    write(
        0.3, 0.5, f"{(lengths == 1).sum()} stills and {(lengths > 1).sum()} videos, good and bad", color=_SOFT
    )
    for i in range(len(rows)):
        x, y = 0.3 + step * (i % _COLUMNS), 0.92 + 1.02 * (i // _COLUMNS)
        show(i, x, y, 0.76, 2.5, colors[i])
        if i in picks:
            badge(x + 0.07, y + 0.07, picks.index(i))
    write(0.3, 4.08, "border: norm, from dark (least) to yellow; bar: attention", color=_SOFT, fontsize=8.5)

    arrow(5.6, 2.2)
    write(6.25, 0.22, f"{len(picks)} picks", fontsize=13, weight="bold")
    write(6.25, 0.5, "the best, then each the farthest", color=_SOFT)
    for k, pick in enumerate(picks):
        y = 0.92 + 1.1 * k
        show(pick, 6.25, y, 0.86, 3, colors[pick])
        badge(6.32, y + 0.07, k)
        line = "largest norm" if k == 0 else f"distance {explanation.distances[k]:.3g}"
        count = len(explanation.members(k))
        write(7.26, y + 0.18, f"{line}\nnearest to {count} face{'s' * (count > 1)}", linespacing=1.5)

    arrow(8.75, 2.2)
    write(9.4, 0.22, "1 descriptor", fontsize=13, weight="bold")
    write(9.4, 0.5, "all faces, by quality and medium", color=_SOFT)
    values = explanation.descriptor.reshape(-1, 16)
    axes = axes_at(9.4, 0.92, 2.3, 1.75, frameon=False)
    limit = np.abs(values).max()
    axes.pcolormesh(values, cmap="PuOr", vmin=-limit, vmax=limit, edgecolors="white", linewidth=1.2)
    place = "the right one is nearest" if rank == 1 else f"the right one comes {rank}th"
    write(9.4, 2.86, f"Among {len(ids):,} people:\n{place}", linespacing=1.5, weight="bold")
    for k, (name, value, color) in enumerate(
        (("this person", mate, "#d55e00"), ("the next best", next_best, "#7f7f7f"))
    ):
        y = 3.5 + 0.3 * k
        write(9.4, y, name, va="center")
        bar = axes_at(10.4, y - 0.07, 0.95, 0.14, frameon=False, xlim=(0, 1), ylim=(0, 1))
        bar.axhspan(0, 1, color="#e6eaee", linewidth=0)
        bar.axhspan(0, 1, xmax=max(float(value), 0.0), color=color, linewidth=0)
        write(11.42, y, f"{value:.2f}", va="center")
    write(9.4, 4.08, "cosine to their other photos", color=_SOFT, fontsize=8.5)
    figure.savefig(arguments.out)
    print(f"{arguments.out}: person {person}, {len(rows)} faces, picks {picks}, rank {rank}")


if __name__ == "__main__":
    main()
