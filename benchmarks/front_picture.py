"""Draws the first picture of the README: the sheet of `fpsset select` of a set, in drawn faces.

python benchmarks/front_picture.py runs/quickstart [--out benchmarks/pictures/sheet.png]

The embeddings are synthetic, of 1,000 people not seen in training, of each of whom every second medium goes
into the set. It is the first set of 18 faces, with at least three stills, whose picks come from three media.
Each face is drawn with the image quality that its embedding has.
"""

import argparse
import pathlib

import numpy as np
from drawn_faces import draw_face

import fpsset
from fpsset.data.synthetic import make_synthetic
from fpsset.inference.advice import advise
from fpsset.reports.sheets.maps import place as place_faces
from fpsset.reports.sheets.picture import draw_picture
from fpsset.reports.sheets.sheet import Sheet

_FACES = 18


def find_set(model: fpsset.Aggregator):
    """Finds the set to show.

    Returns:
      (table of M faces, [M] cosine of each to its clean image, rows of the set, its person).
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
                return table, clean, rows, person
    raise SystemExit("no person has such a set; change the seed")


def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workdir")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/pictures/sheet.png"))
    arguments = parser.parse_args()
    model = fpsset.load(arguments.workdir)
    table, clean, rows, person = find_set(model)
    explanation = model.explain(table.embeddings[rows], table.norms[rows], media=table.media[rows])
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
    draw_picture(arguments.out, sheet)
    print(f"{arguments.out}: person {person}, {len(rows)} faces, picks {explanation.picks.tolist()}")


if __name__ == "__main__":
    main()
