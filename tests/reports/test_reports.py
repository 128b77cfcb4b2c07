"""Report pages, and comparisons of runs from the command line, with bad input too."""

import csv
import errno
import html.parser
import io
import json
import shutil

import numpy as np
import pytest

import fpsset
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import write_features
from fpsset.errors import InputError
from fpsset.evaluation.evaluator import evaluate
from fpsset.evaluation.metric_names import to_json
from fpsset.evaluation.protocols import make_protocol
from fpsset.evaluation.resampling import Estimate, Interval
from fpsset.inference.loading import load
from fpsset.reports import forms, pictures
from fpsset.reports.draws_file import as_run, write_draws
from fpsset.reports.forms import as_text
from fpsset.reports.learning import read_learning, smoothed
from fpsset.reports.outcome import verdict
from fpsset.reports.report import Provenance, write_report
from tests.commands.lines import process, refused
from tests.few_people import make_faces, save_model


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Two models, their evaluations on the same faces, and evaluations that cannot be compared with them."""
    root = tmp_path_factory.mktemp("reports")
    table = make_faces()
    write_features(root / "faces.npz", table)
    for seed in (0, 1):
        save_model(root / f"model{seed}", seed)
    models = [load(root / f"model{seed}") for seed in (0, 1)]
    protocol = make_protocol(table)
    config = {"steps": "300", "data.eval": "'<faces>.npz'"}
    results = {}
    for name, (model, faces, resamples) in {
        "first": (models[0], protocol, 20),
        "second": (models[1], protocol, 20),
        "others": (models[0], make_protocol(table.take(table.subject != table.subject[0])), 20),
        "more": (models[0], protocol, 30),
        "none": (models[0], protocol, 0),
    }.items():
        found = evaluate(model, faces, resamples=resamples)
        if name in ("first", "second"):
            write_report(root / name, found, Provenance(f"<b>{name}</b>", config, {"fpsset": "0"}))
        else:  # what a comparison reads
            (root / name / "report").mkdir(parents=True)
            path = root / name / "report/draws.npz"
            write_draws(path, as_run(name, name, found))
        results[name] = found
    return root, results


class Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.sources = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        self.sources += [named[key] for key in ("src", "href") if key in named]
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            assert named["alt"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_everything_and_fetches_nothing(house):
    root, results = house
    text = (root / "first/report/index.html").read_text()
    page = Page(text)
    assert not page.open and "script" not in page.tags and "link" not in page.tags
    sources = [source for source in page.sources if not source.startswith(("data:image/png;base64,", "#"))]
    assert all((root / "first/report" / source).is_file() for source in sources)  # the tables beside it
    assert page.tags.count("img") == 6 and page.tags.count("h1") == 1
    assert "<b>first" not in text and "&lt;b&gt;first" in text and "&lt;faces&gt;.npz" in text
    for value in results["first"].fingerprints.values():
        assert (value or "not known") in text
    low = results["first"].verification["fpsset"].points[1e-2].tar.interval.low
    assert f"{low:.3f} to " in text
    few = "the 12 highest at FAR 1e-2 (11 accepted), the 2 highest at FAR 1e-3 (1 accepted)"
    assert f"Few of the 1,104 impostor pairs decide the low FARs: {few}" in text
    assert "There are too few impostor pairs for FAR 1e-4, 1e-5, 1e-6." in text


def test_people_who_are_all_apart_in_a_folder_with_dollars(tmp_path):
    """20 people of four equal faces each, orthogonal: no method makes an error."""
    person = np.repeat(np.arange(20), 4)
    faces = FeatureTable(
        embeddings=np.eye(20, dtype=np.float32)[person],
        norms=np.full(80, 9, np.float32),
        subject=person,
        media=np.arange(80),
        template=np.arange(80) // 2,
    )
    found = evaluate(fpsset.PlainAggregator(), make_protocol(faces), resamples=5)
    workdir = tmp_path / "$a$_[b]"
    made = write_report(workdir, found, Provenance(f"in {workdir}", {}, {}))
    assert "$a$_[b]" in as_text(made[0], 200)
    figures = json.loads((workdir / "results.json").read_text())["verification"]["fpsset"]
    assert figures["eer"] == 0 and figures["tar@far=1e-2"] == 1
    assert all((workdir / "report" / f"{name}.png").is_file() for name in ("roc", "det"))


def test_tables_for_programs_and_papers(house):
    root, results = house
    for name in ("verification", "paired", "quality"):
        lines = list(csv.DictReader(io.StringIO((root / f"first/report/{name}.csv").read_text())))
        found = {(line["method"], line["figure"]): line["value"] for line in lines}
        for method, metrics in to_json(results["first"])[name].items():
            for figure, value in metrics.items():
                if "_low" not in figure and "_high" not in figure:
                    assert found[method, figure] == ("" if value is None else str(value))
        tex = (root / f"first/report/{name}.tex").read_text()
        assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == tex.count(r"\toprule") > 0
        for line in tex.splitlines():
            assert "_" not in line.replace(r"\_", "") or line.startswith("%")


def test_a_latex_table_has_headings_and_the_best_in_bold(house):
    root, results = house
    tex = (root / "first/report/verification.tex").read_text()
    assert r" & \multicolumn{6}{c}{TAR at FAR} \\" in tex and r"Method & $10^{-1}$ & $10^{-2}$" in tex
    assert "Method & EER & AUC" in tex
    eers = {method: f"{v.eer.value:.4f}" for method, v in results["first"].verification.items()}
    assert rf"\textbf{{{min(eers.values())}}}" in tex  # the lowest error is the best
    paired = (root / "first/report/paired.tex").read_text()
    assert r"\textbf" not in paired  # a difference is no better than another
    assert forms._latex_heading("merged_tpir@fpir=1e-2") == r"merged TPIR at FPIR $10^{-2}$"
    assert forms._latex_heading("rank@5") == "Rank 5"


def test_a_trained_run_shows_how_it_learned(house, tmp_path):
    root, results = house
    shutil.copytree(root / "first", tmp_path / "run")
    lines = [{"step": step, "loss": 9.0 - step} for step in range(1, 5)]
    lines.insert(2, {"step": 2, "validation_tar@far=1e-3": 0.5})
    log = tmp_path / "run/metrics.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "lo')
    found = read_learning(tmp_path / "run")
    assert found.loss.tolist() == [8, 7, 6, 5] and found.metric == "tar@far=1e-3"
    assert found.validated.tolist() == [2] and found.validation.tolist() == [0.5]
    np.testing.assert_allclose(smoothed(np.array([4.0, 2.0]), span=1.0), [4.0, 8 / 3])
    found = results["first"]._replace(strata={})  # whose pictures are not the point
    write_report(tmp_path / "run", found, Provenance("trained", {}, {}))
    page = (tmp_path / "run/report/index.html").read_text()
    assert page.index('id="learning"') < page.index('id="verification"')
    log.unlink()
    assert read_learning(tmp_path / "run") is None


def estimate_of(value, low, high):
    return Estimate(value, Interval(low, high), np.array([low, high]))


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        (estimate_of(0.1, 0.05, 0.2), "At FAR 1e-2, fpsset is better than the others: fpsset accepts"),
        (estimate_of(-0.1, -0.2, -0.05), "is better than fpsset: fpsset accepts"),
        (estimate_of(0.0, -0.1, 0.1), "are level: fpsset accepts"),
        (None, "how much of the difference is chance is not known"),
    ],
)
def test_the_verdict(house, difference, says):
    _, results = house
    found = results["first"]
    paired = {name: {"tar@far=1e-2": difference} if difference else {} for name in found.paired}
    assert says in verdict(found._replace(paired=paired))


def test_a_protocol_too_small_for_any_far_has_no_verdict(house):
    _, results = house
    found = results["first"]
    few = {
        method: v._replace(points={far: p._replace(tar=Estimate(None)) for far, p in v.points.items()})
        for method, v in found.verification.items()
    }
    assert verdict(found._replace(verification=few)).startswith(
        "No verdict: 1,104 impostor pairs are too few"
    )


def test_an_evaluation_removes_the_files_of_an_earlier_one(house, tmp_path):
    root, results = house
    shutil.copytree(root / "first", tmp_path / "run")
    bare = results["none"]._replace(strata={})
    write_report(tmp_path / "run", bare, Provenance("bare", {}, {}))
    left = {path.name for path in (tmp_path / "run/report").iterdir()}
    kept = {f"verification.{form}" for form in ("txt", "csv", "tex")}
    assert left == {"index.html", "draws.npz", "roc.png", "det.png", *kept}


def test_a_report_that_fails_keeps_the_earlier_one_and_the_new_results(house, tmp_path, monkeypatch):
    root, results = house
    shutil.copytree(root / "first", tmp_path / "run")
    report = tmp_path / "run/report"
    before = {path.name: path.read_bytes() for path in report.iterdir()}

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(pictures._CURVES, "det", ("roc", fail, ""))
    with pytest.raises(InputError) as raised:
        write_report(tmp_path / "run", results["second"], Provenance("second", {}, {}))
    assert str(raised.value) == (
        f"{report}: could not be written (No space left on device); results.json is written, and the report "
        "from before is kept; free some space, and run the same command again"
    )
    assert {path.name: path.read_bytes() for path in report.iterdir()} == before
    second = json.loads((root / "second/results.json").read_text())
    assert json.loads((tmp_path / "run/results.json").read_text()) == second
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["report", "results.json"]


def test_runs_are_compared_on_the_same_draws(house, tmp_path):
    root, results = house
    out = process("report", root / "first", root / "second", "--out", tmp_path / "out").out
    first, second = (results[name] for name in ("first", "second"))
    eer = [run.verification["fpsset"].eer for run in (second, first)]
    low, high = np.percentile(eer[0].draws - eer[1].draws, [2.5, 97.5])
    text = (tmp_path / "out/comparison.txt").read_text()
    assert "second - first" in text and "first (reference)" in text and text in out
    (line,) = [
        line
        for line in csv.DictReader((tmp_path / "out/comparison.csv").read_text().splitlines())
        if line["method"] == "second - first" and line["figure"] == "eer"
    ]
    value = eer[0].value - eer[1].value
    assert [float(line[key]) for key in ("value", "low", "high")] == pytest.approx([value, low, high])
    page = Page((tmp_path / "out/index.html").read_text())
    assert not page.open and page.tags.count("img") == 3
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"roc.png", "det.png", "differences.png"}


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (["first"], "give two or more"),
        (["first", "first"], "give two or more"),
        (["first", "nowhere"], "no such folder"),
        (["first", "model0"], "was not evaluated"),
        (["first", "others"], "with another protocol than"),
        (["first", "more"], "with other draws of the subjects than"),
        (["first", "none"], "--config.evaluation.resamples=200"),
        (["first", "second", "--method", "median"], "holds no method 'median'"),
        (["first", "damaged"], "cannot be read as an .npz"),
    ],
)
def test_runs_that_cannot_be_compared(house, capsys, tmp_path, runs, says):
    root, _ = house
    if "damaged" in runs:
        shutil.copytree(root / "second/report", tmp_path / "damaged/report")
        path = tmp_path / "damaged/report/draws.npz"
        path.write_bytes(path.read_bytes()[:2000])
    places = {"damaged": tmp_path / "damaged", "--method": "--method", "median": "median"}
    assert says in refused(capsys, "report", *(places.get(name, root / name) for name in runs))
