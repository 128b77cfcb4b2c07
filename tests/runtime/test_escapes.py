"""Names that hold anything: on a terminal, in CSV, in LaTeX, in plots, in error messages."""

import csv
import io
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fpsset.errors import InputError
from fpsset.reports.forms import as_csv, as_latex, as_text
from fpsset.reports.plots import draw_cmc, draw_det, draw_roc
from fpsset.reports.tables import Cell, Section, Table
from fpsset.runtime.escapes import csv_cell, latex, plot_text, printable
from fpsset.runtime.exits import exit_code

ASCII = ("run[a]", "run[/b]", ":smile:", "a$b$c", "_hidden", "\x1b[31mred", "=1+1", "a^b~c")
NAMES = (*ASCII, "x\u202ey", "\udcff")


@given(st.text(st.characters(codec=None)))
def test_nothing_printable_acts_and_nothing_is_lost(text):
    shown = printable(text)
    shown.encode()  # no lone surrogates
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(shown) >= len(text)
    assert shown == text or not text.isprintable()
    assert not csv_cell(text).lstrip(" ").startswith(("=", "+", "-", "@"))
    assert "\n" not in latex(text) and "--" not in latex(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a_b^2~", r"a\_b\textasciicircum{}2\textasciitilde{}"),
        ("\\{}", r"\textbackslash{}\{\}"),
        ("a--b", "a-{}-b"),
        ("../run", "../run"),
    ],
)
def test_latex(text, wanted):
    assert latex(text) == wanted


def test_tables_keep_every_name():
    tables = [Table("TAR", ["tar@far=1e-3"], [(name, [Cell("0.5", "0.4..0.6")]) for name in NAMES])]
    figures = {name: {"eer": 0.1} for name in NAMES}
    made = Section("verification", "in [b]$x$[/b]\x1b[0m", tables, "note [x]", figures)
    text = as_text(made)
    for name in (*NAMES, made.title, made.note):
        assert printable(name) in text
    assert "\x1b" not in text
    labels = [row[0] for row in csv.reader(io.StringIO(as_csv(made)))][1:]
    assert [label.removeprefix("'") for label in labels] == [printable(name) for name in NAMES]
    assert "'=1+1" in labels
    tex = as_latex(made)
    assert "0.4--0.6" in tex and r"a\^b" not in tex and r"a\textasciicircum{}b\textasciitilde{}c" in tex


def test_legends_and_titles_show_every_name(tmp_path, monkeypatch):
    saved, draw_canvas = [], FigureCanvasAgg.draw
    monkeypatch.setattr(
        FigureCanvasAgg, "draw", lambda canvas: (saved.append(canvas.figure), draw_canvas(canvas))
    )
    line = np.array([0.1, 0.5, 1.0]), np.array([0.5, 0.9, 1.0])
    for draw in (draw_roc, draw_det, draw_cmc):
        draw(tmp_path / "x.png", dict.fromkeys(ASCII, line), "in $HOME/$x\n2 pairs")
    assert len(saved) == 3
    for figure in saved:
        (axes,) = figure.axes
        legend = axes.get_legend() or figure.legends[0]
        assert [text.get_text().strip() for text in legend.get_texts()] == [
            plot_text(n).strip() for n in ASCII
        ]
        assert axes.get_title(loc="left") == r"in \$HOME/\$x" + "\n2 pairs"


@pytest.mark.parametrize("far", [np.array([1.0]), np.array([0.5, 1.0]), np.array([1e-3, 1.0])])
def test_plots_of_methods_that_make_no_error(tmp_path, far):
    perfect = {"mean": (far, np.ones(len(far))), "fpsset": (far, np.ones(len(far)))}
    for draw in (draw_roc, draw_det):
        draw(tmp_path / "plot.png", perfect, "all apart")
    assert (tmp_path / "plot.png").stat().st_size


def test_an_error_message_is_one_harmless_line(capsys):
    def fail():
        raise InputError("a\x1b[2Jb\nc\x07\udcff: no such file")

    assert exit_code(fail) == 2
    assert capsys.readouterr().err == "fpsset: a\\x1b[2Jb c\\x07\\udcff: no such file\n"
