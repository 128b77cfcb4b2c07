"""fpsset select and aggregate as processes: text in 80 columns, JSON, sheets and bad input."""

import html.parser
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

import fpsset
from fpsset.commands import cli
from fpsset.data.files import write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.reports.sheets.colors import norm_colors
from fpsset.reports.sheets.maps import place
from tests.commands.backbone import write_onnx
from tests.commands.lines import process, refused
from tests.images.images import picture
from tests.torch_files import aggregator_state, save

ONNX = ("--color-order", "bgr", "--mean", "127.5", "--std", "127.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features of four people, all padded to one size, a model, images of two people and a backbone."""
    root = tmp_path_factory.mktemp("select")
    few, _ = make_synthetic(4, seed=1, dim=32, stills=(3, 4), clips=(1, 1), frames=(3, 4))
    write_features(root / "f.npz", few)
    save(root / "a.ckpt", {"state_dict": aggregator_state(32), "hyper_parameters": {"coreset_size": 3}})
    for person, seeds in {"anna": (1, 1, 2, 3), "bert": (4, 5)}.items():
        (root / "people" / person).mkdir(parents=True)
        for i, seed in enumerate(seeds):
            name = f"clip_frame_{i}" if i < 2 else f"<b>still {i}"
            picture(seed).save(root / "people" / person / f"{name}.png")
    (root / "people/anna/notes.txt").write_text("no image")
    (root / "people/anna/broken.png").write_text("no image either")
    write_onnx(root / "r.onnx")
    return root


def test_aggregate(folder, tmp_path):
    out = tmp_path / "d.npz"
    said = json.loads(process("aggregate", folder / "a.ckpt", folder / "f.npz", out, "--json").out)
    model = fpsset.load(folder / "a.ckpt")
    table = fpsset_features(folder)
    gallery = model.load_gallery(out)
    assert gallery.ids.tolist() == [0, 1, 2, 3] and said["sets"] == 4 and said["faces"] == len(table)
    _, expected, norms, _ = model.aggregate(table.embeddings, table.norms, table.subject)
    np.testing.assert_allclose(gallery.descriptors, expected, atol=1e-6)
    np.testing.assert_allclose(gallery.norms, norms, rtol=1e-5)
    assert "4 descriptors" in process("aggregate", "plain", folder / "f.npz", out).out
    with pytest.raises(fpsset.InputError, match="made by the model"):
        model.load_gallery(out)


def fpsset_features(folder):
    from fpsset.data.files import read_features

    return read_features(folder / "f.npz")


def test_features_in_text_and_json(folder):
    """The API's picks, in 80 columns, without colour although the environment forces it."""
    table = fpsset_features(folder)
    rows = np.flatnonzero(table.subject == 2)
    model = fpsset.load(folder / "a.ckpt")
    why = model.explain(table.embeddings[rows], table.norms[rows], media=table.media[rows])
    said = json.loads(process("select", folder / "a.ckpt", folder / "f.npz", "--set", 2, "--json").out)
    assert said["picks"] == why.picks.tolist()
    assert said["picked"] == [f"row {row}" for row in rows[why.picks]]
    np.testing.assert_allclose(said["change"], why.change, atol=1e-6)
    text = process("select", folder / "a.ckpt", folder / "f.npz", "--set", 2, "--faces", FORCE_COLOR="1").out
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 80
    places = [text.index(name) for name in said["picked"]]
    assert places == sorted(places)
    for line in said["advice"]["lines"]:
        assert " ".join(line.split()) in " ".join(text.split())


class Tags(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def sources(self):
        return [a[key] for _, a in self.found for key in ("src", "href") if key in a]


def test_images_to_a_sheet(folder, tmp_path):
    sheet = tmp_path / "out" / "s.html"
    done = process(
        *("select", "plain", folder / "people", "--set", "anna", "--weights", folder / "r.onnx", *ONNX),
        *("--sheet", sheet),
    )
    assert "left out: anna/broken.png: not a whole image" in done.err
    assert "4 faces, 3 media, 3 picks" in done.out
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in sheet.parent.iterdir())
    page = sheet.read_text()
    sources = Tags(page).sources()
    assert len(sources) == 4 and all(s.startswith("data:image/jpeg;base64,") for s in sources)
    assert "<b>still" not in page and "&lt;b&gt;still 2" in page  # names are no markup
    with Image.open(sheet.with_suffix(".png")) as image:
        assert image.width > 1000
    one = json.loads(
        process(
            "select", "plain", folder / "people/anna", "--weights", folder / "r.onnx", *ONNX, "--json"
        ).out
    )
    assert one["title"] == "anna" and one["media"][2] == one["media"][3] and len(set(one["media"])) == 3
    assert one["picked"][0].endswith(".png")


def test_features_to_a_map(folder, tmp_path):
    sheet = tmp_path / "s.html"
    process("select", "plain", folder / "f.npz", "--set", 1, "--sheet", sheet)
    page, count = sheet.read_text(), (fpsset_features(folder).subject == 1).sum()
    assert not Tags(page).sources() and "<svg" in page
    assert sum(tag == "circle" for tag, _ in Tags(page).found) == count + 3
    assert sheet.with_suffix(".png").is_file()


def test_bad_input(folder, tmp_path, capsys):
    select, images = ("select", "plain"), folder / "people/anna"
    assert "no such folder or file" in refused(capsys, *select, "nowhere")
    assert "no such model" in refused(capsys, "select", "nowhere", folder / "f.npz", "--set", 1)
    assert "holds 4 sets (0, 1, 2, 3); choose one with --set" in refused(capsys, *select, folder / "f.npz")
    assert "holds no set 9" in refused(capsys, *select, folder / "f.npz", "--set", 9)
    assert "no column 'template'" in refused(capsys, *select, folder / "f.npz", "--by", "template")
    assert "give --weights" in refused(capsys, *select, images)
    assert "--color-order, --mean" in refused(capsys, *select, images, "--weights", folder / "r.onnx")
    assert "ends in .html" in refused(
        capsys, *select, folder / "f.npz", "--set", 1, "--sheet", tmp_path / "s.pdf"
    )
    assert "No such option" in refused(capsys, *select, folder / "f.npz", "--colour")


def test_bad_input_to_aggregate(folder, tmp_path, capsys):
    out = tmp_path / "d.npz"
    assert "no such folder or file" in refused(capsys, "aggregate", "plain", tmp_path / "no.npz", out)
    assert "is also SOURCE" in refused(capsys, "aggregate", "plain", folder / "f.npz", folder / "f.npz")
    assert "written as .npz" in refused(capsys, "aggregate", "plain", folder / "f.npz", tmp_path / "d.csv")
    assert "Missing argument" in refused(capsys, "aggregate", "plain")
    assert "give --weights" in refused(capsys, "aggregate", "plain", folder / "people", out)
    merge = "aggregate", "plain", folder / "f.npz", out, "--merge"
    assert "holds no set 'anna'" in refused(capsys, *merge, "0,anna")
    assert "names the set '1' twice" in refused(capsys, *merge, "0,1", "--merge", "1,2")
    write_features(tmp_path / "wide.npz", make_synthetic(2, seed=1, dim=16)[0])
    assert "16 wide" in refused(capsys, "aggregate", folder / "a.ckpt", tmp_path / "wide.npz", out)
    assert not out.exists()


def test_folders_of_people_are_aggregated_and_merged(folder, tmp_path, capsys):
    """Ids are the names of the folders; a merged person has one descriptor, of all faces."""
    options = ("--weights", folder / "r.onnx", *ONNX)
    plain, out = fpsset.PlainAggregator(), tmp_path / "d.npz"
    for merge, ids in ([], ["anna", "bert"]), (["--merge", "bert,anna"], ["bert"]):
        call = ["aggregate", "plain", folder / "people", out, *options, *merge]
        assert cli.main(list(map(str, call))) == 0
        assert plain.load_gallery(out).ids.tolist() == ids
        out.unlink()
    assert "left out: anna/broken.png" in capsys.readouterr().err
    call = ["select", "plain", folder / "people", "--merge", *options, "--json"]
    assert cli.main(list(map(str, call))) == 0
    assert len(json.loads(capsys.readouterr().out)["faces"]) == 6


def test_real_clips_are_not_repeated_without_a_word(shared):
    """If two frames of a clip are picked and another medium is not, the page explains it."""
    weights = shared / "models/mobilefacenet_512.onnx"
    said = json.loads(
        process(
            *("select", "plain", shared / "faces/person_00", "--weights", weights, "--json"),
            *("--color-order", "bgr", "--mean", 127, "--std", 128),
        ).out
    )
    media = [said["media"][pick] for pick in said["picks"]]
    repeated = len(set(media)) < len(media) and len(set(said["media"])) > len(set(media))
    assert repeated == any("come from the same clip" in line for line in said["advice"]["lines"])


def test_colors_and_places_of_awkward_sets():
    assert norm_colors(np.array([3.0, 3.0])) == ["#fee838"] * 2
    assert norm_colors(np.array([1.0, 2.0])) == ["#00224e", "#fee838"]
    for embeddings in (np.eye(1, 8), np.eye(5, 8), np.ones((3, 8)) / np.sqrt(8)):
        places, _ = place(embeddings.astype(np.float32))
        assert places.shape == (len(embeddings), 2) and np.isfinite(places).all()
        assert places.min() >= -1e-6 and places.max() <= 1 + 1e-6


def test_a_map_by_umap(monkeypatch, folder, capsys):
    """The settings given to umap-learn, and the message if it is missing."""
    asked = {}

    class Umap:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, rows):
            return rows[:, :2] * 100

    embeddings = np.eye(7, 8, dtype=np.float32)
    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Umap))
    places, note = place(embeddings, "umap")
    assert note.startswith("UMAP") and asked["metric"] == "cosine" and asked["random_state"] == 0
    assert places.min() == 0 and places.max() == 1
    assert place(embeddings[:4], "umap")[1] == place(embeddings)[1]
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "fpsset[umap]" in refused(capsys, "select", "plain", folder / "f.npz", "--set", 1, "--map", "umap")
