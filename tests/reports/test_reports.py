"""Report pages, comparisons of runs and calibrated thresholds, from the command line, with bad input too."""

import csv
import dataclasses
import errno
import html.parser
import io
import itertools
import json
import shutil

import jax
import numpy as np
import pytest

import fpsset
from fpsset.commands import cli
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import read_features, write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.evaluation.evaluator import evaluate
from fpsset.evaluation.metric_names import to_json
from fpsset.evaluation.protocols import make_protocol
from fpsset.evaluation.scoring import pair_scores
from fpsset.face_set import pad_sets
from fpsset.inference.loading import load
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.reports import pictures
from fpsset.reports.draws_file import as_run, write_draws
from fpsset.reports.report import Provenance, write_report
from fpsset.weights.cards import AggregatorCard, Weights, WeightsCard, save_weights
from tests.commands.lines import process, refused

DIM = 16


def make_faces():
    """24 people with two templates of at most 8 faces each, so that all batches have one shape."""
    table = make_synthetic(24, 1, DIM)[0]
    sets = make_protocol(table).sets
    parts = [sets.rows[start : min(start + 8, stop)] for start, stop in itertools.pairwise(sets.starts)]
    template = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return dataclasses.replace(table.take(np.concatenate(parts)), template=template)


def save_model(folder, seed: int, **trained):
    card = AggregatorCard(3, num_heads=2, dim=DIM, norm_scale=1.0, by_media=True, **trained)
    sets = pad_sets([np.eye(DIM, dtype=np.float32)[:4]], [np.ones(4, np.float32)])
    params = FaceCoresetNet(coreset_size=3, num_heads=2).init(jax.random.key(seed), sets)["params"]
    params = jax.tree.map(np.asarray, params)
    about = WeightsCard("FaceCoresetNet", "drawn", "0" * 64, "none", {}, (), None, card)
    save_weights(folder, Weights({"aggregator": {"params": params}}, about))


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
    text = write_report(workdir, found, Provenance(f"in {workdir}", {}, {}))
    assert "$a$_[b]" in text
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
    out = process("report", root / "first", root / "second", "--out", tmp_path / "out").stdout
    first, second = (results[name] for name in ("first", "second"))
    eer = [run.verification["fpsset"].eer for run in (second, first)]
    low, high = np.percentile(eer[0].draws - eer[1].draws, [2.5, 97.5])
    text = (tmp_path / "out/comparison.txt").read_text()
    assert "second - first" in text and text in out
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


@pytest.fixture(scope="module")
def calibrated(house):
    """A model with a threshold, the scores it was calibrated on, and the files of three sets."""
    root, _ = house
    out = process(
        "calibrate", root / "model0", root / "faces.npz", "--far", "0.01", "--resamples", "50"
    ).stdout
    model = load(root / "model0")
    table = make_faces()
    protocol = make_protocol(table)
    _, vectors, _, _ = model.aggregate(
        table.embeddings[protocol.sets.rows],
        table.norms[protocol.sets.rows],
        np.repeat(np.arange(48), protocol.sets.sizes()),
        media=table.media[protocol.sets.rows],
    )
    for name, template in (("a", 0), ("b", 1), ("c", 4)):
        rows = protocol.sets.rows[slice(*protocol.sets.starts[template : template + 2])]
        write_features(root / f"{name}.npz", table.take(rows))
    return root, out, vectors, protocol


def test_a_threshold_holds_its_far(calibrated):
    root, out, vectors, protocol = calibrated
    held = json.loads((root / "model0/thresholds.json").read_text())
    kept = held["thresholds"]["0.01"]
    scores = pair_scores(vectors, protocol.pairs)
    far = np.mean(scores[~protocol.pairs.same] > kept["threshold"])
    assert far == pytest.approx(kept["achieved_far"], abs=1.5 / 1104) and kept["achieved_far"] <= 0.01
    assert kept["threshold_low"] <= kept["threshold"] <= kept["threshold_high"]
    assert kept["impostor_pairs"] == 1104 and kept["accepted_impostors"] == 11
    assert held["model"] == load(root / "model0").digest and len(kept["data_fingerprint"]) == 16
    assert f"threshold {kept['threshold']:.4f} (" in out and "11 impostor pairs are accepted" in out
    assert load(root / "model0").dim == DIM  # thresholds.json does not disturb the weights


def test_two_sets_are_compared_at_the_threshold(calibrated, capsys):
    root, _, vectors, _ = calibrated
    kept = json.loads((root / "model0/thresholds.json").read_text())["thresholds"]["0.01"]
    answer = json.loads(
        process("verify", root / "a.npz", root / "b.npz", "--model", root / "model0", "--json").stdout
    )
    assert answer["score"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=2e-3)  # float16 files
    assert answer["accepted"] == (answer["score"] > kept["threshold"])
    assert {name: answer[name] for name in ("threshold", "far", "threshold_low")} == {
        name: kept[name] for name in ("threshold", "far", "threshold_low")
    }
    assert cli.main(["verify", *(str(root / f"{n}.npz") for n in "ac"), "--model", str(root / "model0")]) == 0
    out = capsys.readouterr().out
    score = float(vectors[0] @ vectors[4])
    assert out.startswith("accepted: score " if score > kept["threshold"] else "refused: score ")
    assert "for a FAR of 0.01 (1104 impostor pairs of faces.npz)" in out


def test_sets_of_two_backbones_are_not_compared(calibrated, capsys, tmp_path):
    root, *_ = calibrated
    for name, backbone in (("a", "aaaa"), ("b", "bbbb")):
        write_features(
            tmp_path / f"{name}.npz",
            dataclasses.replace(read_features(root / f"{name}.npz"), backbone=backbone),
        )
    call = ["verify", tmp_path / "a.npz", tmp_path / "b.npz", "--model", root / "model0"]
    assert cli.main(list(map(str, call))) == 2
    said = f"b.npz: its embeddings come from the backbone bbbb, those of {tmp_path}/a.npz from aaaa"
    assert said in capsys.readouterr().err


def test_faces_that_the_model_was_trained_on(calibrated, capsys, tmp_path):
    root, *_ = calibrated
    faces = root / "faces.npz"
    save_model(tmp_path / "model", 0, train_fingerprint=read_features(faces).fingerprint())
    call = ["calibrate", tmp_path / "model", faces, "--far", "0.01", "--resamples", "0"]
    assert cli.main(list(map(str, call))) == 0
    said = "warning: the model was trained on the faces of faces.npz"
    assert capsys.readouterr().err.startswith(said)
    (kept,) = json.loads((tmp_path / "model/thresholds.json").read_text())["thresholds"].values()
    assert kept["warning"].startswith("the model was trained on the faces of faces.npz")
    call = ["verify", root / "a.npz", root / "b.npz", "--model", tmp_path / "model"]
    assert cli.main(list(map(str, call))) == 0
    assert capsys.readouterr().err.startswith(said)


def test_thresholds_of_several_fars_and_of_another_model(calibrated, capsys, tmp_path):
    root, *_ = calibrated
    shutil.copytree(root / "model0", tmp_path / "model")
    sets = root / "a.npz", root / "b.npz", "--model", tmp_path / "model"
    call = ["calibrate", tmp_path / "model", root / "faces.npz", "--far", "0.1", "--resamples", "0"]
    assert cli.main(list(map(str, call))) == 0
    assert "no intervals" in capsys.readouterr().out
    assert "several thresholds; give --far as one of 0.01, 0.1" in refused(capsys, "verify", *sets)
    assert "no threshold for a FAR of 0.2" in refused(capsys, "verify", *sets, "--far", 0.2)
    assert cli.main(list(map(str, ["verify", *sets, "--far", 0.1]))) == 0
    capsys.readouterr()
    path = tmp_path / "model/thresholds.json"
    path.write_text(path.read_text().replace('"threshold":', '"thresh":'))
    assert "differs from what was saved" in refused(capsys, "verify", *sets)
    shutil.copy(root / "model0/thresholds.json", root / "model1")
    err = refused(capsys, "verify", *sets[:2], "--model", root / "model1")
    assert "calibrate again" in err and load(root / "model1").digest in err


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("calibrate model0 nowhere.npz", "no such file"),
        ("calibrate model0 faces.npz --far 0", "--far is 0"),
        ("calibrate model0 faces.npz --far many", "'many' is not a valid float"),
        ("calibrate model0 faces.npz --far 1e-5", "1104 impostor pairs are too few"),
        ("calibrate model0 faces.npz --resamples -1", "--resamples is -1"),
        ("calibrate nowhere faces.npz", "no such folder"),
        ("calibrate model0 wide.npz", "embeddings are 8 wide"),
        ("calibrate model0 a.npz", "holds no impostor pair"),
        ("verify a.npz", "Missing argument 'B'"),
        ("verify a.npz b.npz", "Missing option '--model'"),
        (
            "verify a.npz faces.npz --model model0",
            "holds 48 sets (0, 1, 2, 3, 4, 5, 6, 7, ...); give a file with one set",
        ),
        ("verify a.npz nowhere.npz --model model0", "no such folder or file"),
        ("verify wide.npz b.npz --model model0", "embeddings are 8 wide"),
        ("verify a.npz b.npz --model fresh", "no such file; calibrate a threshold"),
    ],
)
def test_bad_input(calibrated, capsys, monkeypatch, call, says):
    root, *_ = calibrated
    monkeypatch.chdir(root)
    if "wide" in call:
        table = make_synthetic(4, 1, 8)[0]
        write_features("wide.npz", table.take(table.subject == 0) if "verify" in call else table)
    if "fresh" in call:
        save_model(root / "fresh", 2)
    assert says in refused(capsys, *call.split())


def test_a_model_that_is_a_file_keeps_its_thresholds_beside_it(tmp_path):
    from fpsset.evaluation.calibration import thresholds_file

    path = tmp_path / "model.ckpt"
    path.touch()
    assert thresholds_file(path) == tmp_path / "model.ckpt.thresholds.json"
