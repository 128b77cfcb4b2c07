"""A coreset sheet as text for a terminal."""

import io

from rich.table import Table

from fpsset.reports.sheets.sheet import Sheet
from fpsset.runtime.escapes import plain_console, printable


def as_text(sheet: Sheet, width: int, every_face: bool = False) -> str:
    """The sheet as tables and sentences, without colour.

    Args:
      sheet: what to show.
      width: of the terminal, in columns.
      every_face: also list the faces that are not picks.
    """
    why, buffer = sheet.why, io.StringIO()
    console, names = plain_console(buffer, width), [printable(name) for name in sheet.names]
    console.print(f"{printable(sheet.title)}: {sheet.counts()}")
    console.print(f"model: {printable(sheet.model)}\n")
    picks = _table("pick", "face", "norm", "adds", "faces", "attention", "change")
    for k, pick in enumerate(why.picks):
        adds = "top norm" if k == 0 else f"{why.distances[k]:.3g}"
        attention = f"{why.attention[pick]:.1%}"
        numbers = (f"{why.norms[pick]:.3g}", adds, f"{len(why.members(k))}", attention)
        picks.add_row(f"{k + 1}", names[pick], *numbers, _change(sheet, pick))
    console.print(picks)
    if every_face:
        faces = _table("pick", "face", "norm", "cosine", "attention", "change", "")
        for k in range(len(why.picks)):
            for i in why.members(k):
                numbers = (f"{why.norms[i]:.3g}", f"{why.cosine[i]:.2f}", f"{why.attention[i]:.1%}")
                marks = "pick" if i == why.picks[k] else "", sheet.advice.of_face(i)
                mark = ", ".join(filter(None, marks))
                faces.add_row(f"{k + 1}", names[i], *numbers, _change(sheet, i), mark)
        console.print()
        console.print(faces)
    console.print()
    for line in sheet.advice.lines:
        console.print(f"- {printable(line)}")
    console.print(
        "\nadds: distance to earlier picks; faces: nearest to the pick; change: of the descriptor without it"
    )
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n")).rstrip("\n")


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in headers:
        words = header in ("face", "")
        table.add_column(header, overflow="fold", justify="left" if words else "right")
    return table


def _change(sheet: Sheet, i: int) -> str:
    change = sheet.why.change
    return "-" if change is None or change[i] != change[i] else f"{change[i]:.4f}"
