"""Images to features: what is listed, how faces are aligned, and whole runs."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import fpsset.extraction.extract as extraction
from fpsset.config import check_extraction_config, extraction_config
from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.data.files import read_features
from fpsset.errors import InputError
from fpsset.extraction.aligned_faces import ARCFACE_112, UnreadableImage, read_face
from fpsset.extraction.color_order import examine, sample_rows
from fpsset.extraction.listing import list_images
from fpsset.extraction.recognisers import Recogniser
from fpsset.models.iresnet import IResNetConfig
from fpsset.weights import BackboneCard
from tests.torch_files import random_variables, save, state_dict

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATTERN = extraction_config().media_pattern
TINY = IResNetConfig((1, 1, 1, 1))


def picture(seed: int, size: int = 112) -> Image.Image:
    """A smooth random image."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def write_people(root: pathlib.Path, people: int = 3, each: int = 3) -> None:
    for person in range(people):
        folder = root / f"person_{person}"
        folder.mkdir(parents=True)
        for i in range(each):
            picture(10 * person + i).save(folder / f"still_{i}.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save(path, state_dict(random_variables(TINY), TINY, "net."))
    return path


def config_for(root, weights, out, **fields):
    config = extraction_config()
    config.update(images=str(root), weights=str(weights), out=str(out), batch_size=4, batches_per_part=1)
    config.update(fields)
    check_extraction_config(config)
    return config


def test_a_folder_per_person(tmp_path):
    names = [
        "ann/still_0.png", "ann/clip0_frame_0.png", "ann/clip0_frame_1.JPG", "ann/clip1-frame7.png",
        "bob/video/0001.jpg", "bob/video/0002.jpg", "bob/clip0_frame_0.png",
    ]  # fmt: skip
    for name in [*names, "bob/notes.txt", "stray.png", "bob/.hidden.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images = list_images(tmp_path, "", PATTERN)
    assert sorted(images.paths) == sorted(names) and set(images.ignored) == {"bob/notes.txt", "stray.png"}
    subject, media = (
        dict(zip(images.paths, c.tolist(), strict=True)) for c in (images.subject, images.media)
    )
    assert subject["ann/still_0.png"] == 0 and subject["bob/video/0001.jpg"] == 1
    assert media["ann/clip0_frame_0.png"] == media["ann/clip0_frame_1.JPG"] != media["bob/clip0_frame_0.png"]
    assert media["bob/video/0001.jpg"] == media["bob/video/0002.jpg"]
    assert len(set(media.values())) == 5


def write_ijb(root: pathlib.Path, csv: bool = True) -> pathlib.Path:
    """Three images of two templates in the official layout."""
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    marks = " ".join(f"{v:.3f}" for v in (ARCFACE_112 * 2).ravel())
    lines = "".join(f"{i}.jpg {marks} 0.99\n" for i in (1, 2, 3))
    (root / "meta/ijbc_name_5pts_score.txt").write_text(lines)
    (root / "meta/ijbc_face_tid_mid.txt").write_text("1.jpg 7 70\n2.jpg 7 71\n3.jpg 9 72\n")
    if csv:
        (root / "meta/ijbc_1N_gallery_G1.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n7,500,x\n")
        (root / "meta/ijbc_1N_probe_mixed.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n9,501,x\n")
    for i in (1, 2, 3):
        picture(i, 224).save(root / f"loose_crop/{i}.jpg")
    return root / "loose_crop"


def test_loose_crops(tmp_path):
    images = list_images(write_ijb(tmp_path / "a"), "", PATTERN)
    assert images.paths == ["1.jpg", "2.jpg", "3.jpg"]
    np.testing.assert_array_equal(images.template, [7, 7, 9])
    np.testing.assert_array_equal(images.media, [70, 71, 72])
    np.testing.assert_array_equal(images.subject, [500, 500, 501])
    np.testing.assert_allclose(images.landmarks[1], ARCFACE_112 * 2, atol=1e-3)
    assert (list_images(write_ijb(tmp_path / "b", csv=False), "", PATTERN).subject == UNKNOWN_SUBJECT).all()


@pytest.mark.parametrize(
    "file, text, problem",
    [
        ("ijbc_name_5pts_score.txt", "1.jpg 1 2 3\n", "line 1 has 4 fields, not 11 or 12"),
        ("ijbc_name_5pts_score.txt", "1.jpg" + " x" * 10 + "\n", "could not convert"),
        ("ijbc_name_5pts_score.txt", "", "is empty"),
        ("ijbc_face_tid_mid.txt", "2.jpg 7 70\n1.jpg 7 71\n3.jpg 9 72\n", "same order"),
        ("ijbc_face_tid_mid.txt", "1.jpg 7\n", "line 1 has 2 fields"),
        ("ijbc_face_tid_mid.txt", "1.jpg 7 x\n2.jpg 7 71\n3.jpg 9 72\n", "invalid literal"),
        ("ijbc_1N_gallery_G1.csv", "A,B\n7,5\nx,5\n", "line 3 is no"),
        ("ijbc_1N_gallery_G1.csv", f"A,B\n7,{10**30}\n", "line 2 is no"),
        ("ijbc_1N_gallery_G1.csv", b"A,B,\xe9\n", "line 1 is no"),
        ("ijbc_face_tid_mid.txt", f"1.jpg {10**30} 7\n2.jpg 7 71\n3.jpg 9 72\n", "too large"),
        ("other_name_5pts_score.txt", "1.jpg\n", "holds 2 files"),
    ],
)
def test_malformed_lists(tmp_path, file, text, problem):
    root = write_ijb(tmp_path)
    (tmp_path / "meta" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=problem):
        list_images(root, "", PATTERN)


def test_nothing_to_list(tmp_path):
    with pytest.raises(InputError, match="no image"):
        list_images(tmp_path, "", PATTERN)
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "none", "", PATTERN)
    for pattern in ("(", "frame"):
        with pytest.raises(InputError, match="media_pattern"):
            list_images(tmp_path, "", pattern)


def test_links_are_followed_once(tmp_path):
    write_people(tmp_path / "elsewhere", people=1)
    (tmp_path / "faces/bob").mkdir(parents=True)
    (tmp_path / "faces/ann").symlink_to(tmp_path / "elsewhere/person_0")
    (tmp_path / "faces/bob/loop").symlink_to(tmp_path / "faces")
    picture(1).save(tmp_path / "faces/bob/still.png")
    assert list_images(tmp_path / "faces", "", PATTERN).paths == [
        *(f"ann/still_{i}.png" for i in range(3)),
        "bob/still.png",
    ]


def test_names_in_lists(tmp_path):
    marks = " 1 2" * 5
    (tmp_path / "marks.txt").write_text(f"./ann/0.png{marks}\n./ann/1.png{marks}\nbob//0.png{marks} .9\n")
    images = list_images(tmp_path, str(tmp_path / "marks.txt"), PATTERN)
    assert images.paths == ["ann/0.png", "ann/1.png", "bob/0.png"]
    np.testing.assert_array_equal(images.subject, [0, 0, 1])
    assert len(set(images.media.tolist())) == 3
    for name in ("/data/ann/0.png", "../ann/0.png"):
        (tmp_path / "marks.txt").write_text(name + marks)
        with pytest.raises(InputError, match="line 1 names"):
            list_images(tmp_path, str(tmp_path / "marks.txt"), PATTERN)


def test_names_that_are_no_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    picture(0).save(folder / "a.png")
    with pytest.raises(InputError, match="no plain text"):
        list_images(tmp_path, "", PATTERN)


@pytest.mark.parametrize(
    "degrees, scale, shift", [(0, 1, (0, 0)), (25, 1.7, (120, 30)), (-60, 2.5, (10, 260))]
)
def test_alignment_undoes_a_similarity(tmp_path, degrees, scale, shift):
    """A face that was turned, scaled and moved comes back."""
    face = picture(1)
    angle = np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = ARCFACE_112 @ turn.T + shift
    back = np.linalg.inv(turn)
    offset = -back @ shift
    # Pixel centres: where (x, y) of the large image lies in the face.
    y, x = np.mgrid[:420, :420].astype(float)
    source = np.stack([x, y], -1) @ back.T + offset
    low = np.clip(np.floor(source).astype(int), 0, 110)
    part = np.clip(source - low, 0, 1)[..., None]
    pixels = np.asarray(face, float)

    def at(dy, dx):
        return pixels[low[..., 1] + dy, low[..., 0] + dx]

    top = at(0, 0) * (1 - part[..., 0, :]) + at(0, 1) * part[..., 0, :]
    bottom = at(1, 0) * (1 - part[..., 0, :]) + at(1, 1) * part[..., 0, :]
    large = top * (1 - part[..., 1, :]) + bottom * part[..., 1, :]
    Image.fromarray(large.round().astype(np.uint8)).save(tmp_path / "large.png")
    aligned = read_face(tmp_path / "large.png", landmarks)
    inner = slice(12, 100)
    error = np.abs(aligned[inner, inner].astype(float) - pixels[inner, inner])
    assert error.mean() < 1.0 and error.max() < 8


def test_alignment_is_the_best_fit_in_the_aligned_face(tmp_path):
    """For landmarks of no exact similarity, as profiles have: against least squares by hand."""
    marks = ARCFACE_112 * [0.4, 1.0] + [40, 20] + np.random.default_rng(0).normal(0, 3, (5, 2))
    x, y = marks.T
    ones, zeros = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
    a, b, dx, dy = np.linalg.lstsq(system, ARCFACE_112.T.ravel(), rcond=None)[0]
    back = np.linalg.inv([[a, -b], [b, a]])
    # Each pixel's colour is where it lies, so the aligned face shows where each of its pixels came from.
    across, down = np.meshgrid(np.arange(200), np.arange(200))
    Image.fromarray(np.stack([across, down, 0 * down], -1).astype(np.uint8)).save(tmp_path / "ramp.png")
    aligned = read_face(tmp_path / "ramp.png", marks)
    places = np.stack(np.meshgrid(np.arange(112), np.arange(112)), -1)
    source = (places - [dx, dy]) @ back.T
    inside = ((source > 1) & (source < 198)).all(-1)
    assert inside.mean() > 0.4
    assert np.abs(aligned[..., :2] - source)[inside].max() < 1.01


def test_unreadable_faces(tmp_path):
    picture(0).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 112 112\n")
    picture(0, 90).save(tmp_path / "small.png")
    Image.new("L", (112, 112), 7).save(tmp_path / "grey.png")
    assert read_face(tmp_path / "grey.png").shape == (112, 112, 3)
    for name, marks, problem in [
        ("cut.jpg", None, "not a whole image"),
        ("text.png", None, "not a whole image"),
        ("script.png", None, "not a whole image"),  # Pillow would start a program for it
        ("none.png", None, "No such file"),
        ("small.png", None, "90 x 90 pixels"),
        ("small.png", np.full((5, 2), np.nan), "landmarks"),
        ("small.png", np.ones((5, 2)), "landmarks"),
    ]:
        with pytest.raises(UnreadableImage, match=problem):
            read_face(tmp_path / name, marks)


def test_a_run(tmp_path, weights, capsys):
    write_people(tmp_path / "faces")
    (tmp_path / "faces/person_1/broken.png").write_text("no image")
    out = tmp_path / "out/F.npz"
    table = extraction.extract(config_for(tmp_path / "faces", weights, out))
    err = capsys.readouterr().err
    assert "unreadable: person_1/broken.png: not a whole image" in err and "1 of 10 images are not in" in err
    assert (tmp_path / "out/F.unreadable.txt").read_text() == "person_1/broken.png: not a whole image\n"
    assert sorted(p.name for p in out.parent.iterdir()) == ["F.npz", "F.unreadable.txt"]
    read = read_features(out)
    np.testing.assert_array_equal(read.subject, np.repeat([0, 1, 2], 3))
    assert read.paths[0] == "person_0/still_0.png" and read.backbone == table.backbone != ""

    # The same as one at a time, straight from the network.
    import fpsset

    variables = fpsset.load_official(weights)["backbone"]
    faces = np.stack([read_face(tmp_path / "faces" / path) for path in read.paths])
    embeddings, norms = fpsset.embed(variables, (faces / 127.5 - 1).astype(np.float32))
    np.testing.assert_allclose(read.norms, norms, rtol=1e-4)
    assert (read.embeddings * embeddings).sum(1).min() > 0.99999
    (tmp_path / "faces/person_1/broken.png").unlink()
    extraction.extract(config_for(tmp_path / "faces", weights, out))
    assert not (tmp_path / "out/F.unreadable.txt").exists()


def test_loose_crops_through_a_backbone(tmp_path, weights, capsys):
    out = tmp_path / "F.parquet"
    extraction.extract(config_for(write_ijb(tmp_path / "ijb"), weights, out))
    read = read_features(out)
    np.testing.assert_array_equal(read.template, [7, 7, 9])
    assert read.backbone
    assert "colour order: not checked" in capsys.readouterr().err


def test_norms_that_say_nothing_are_noticed(tmp_path, weights, monkeypatch, capsys):
    write_people(tmp_path / "faces")

    def run(images):
        return np.eye(len(images), 8, dtype=np.float32), np.ones(len(images), np.float32)

    recogniser = Recogniser(BackboneCard("test", "rgb", 127.5, 127.5, ""), run)
    monkeypatch.setattr(extraction, "load_recogniser", lambda config: recogniser)
    fields = {"check_color_order": False}
    extraction.extract(config_for(tmp_path / "faces", weights, tmp_path / "F.npz", **fields))
    assert "warning: all norms are equal" in capsys.readouterr().err


def test_an_interrupted_run_goes_on(tmp_path, weights, monkeypatch):
    write_people(tmp_path / "faces", people=4, each=5)
    out, straight = tmp_path / "F.npz", tmp_path / "straight.npz"
    extraction.extract(config_for(tmp_path / "faces", weights, straight))
    done, again, embed_part = [], [], extraction._embed_part

    def stop_after_three(images, rows, *rest):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(rows)
        return embed_part(images, rows, *rest)

    def note_and_embed(images, rows, *rest):
        again.append(rows)
        return embed_part(images, rows, *rest)

    monkeypatch.setattr(extraction, "_embed_part", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        extraction.extract(config_for(tmp_path / "faces", weights, out))
    assert not out.exists() and len(list((tmp_path / ".F.npz.parts").glob("*.npz"))) == 3
    monkeypatch.setattr(extraction, "_embed_part", note_and_embed)
    extraction.extract(config_for(tmp_path / "faces", weights, out))
    assert again == [range(12, 16), range(16, 20)]
    assert not (tmp_path / ".F.npz.parts").exists()
    with np.load(out) as ours, np.load(straight) as theirs:
        assert set(ours.files) == set(theirs.files)
        for column in ours.files:
            np.testing.assert_array_equal(ours[column], theirs[column])

    # A part that a power cut left short is made again, and what became readable is read.
    done.clear()
    broken = tmp_path / "faces/person_0/still_2.png"
    whole, stat = broken.read_bytes(), broken.stat()
    broken.write_bytes(bytes(len(whole)))
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setattr(extraction, "_embed_part", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        extraction.extract(config_for(tmp_path / "faces", weights, out))
    (tmp_path / ".F.npz.parts/000000004.npz").write_bytes(b"")
    broken.write_bytes(whole)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again.clear()
    monkeypatch.setattr(extraction, "_embed_part", note_and_embed)
    extraction.extract(config_for(tmp_path / "faces", weights, out))
    assert [part.start for part in again] == [0, 4, 12, 16]
    np.testing.assert_array_equal(read_features(out).embeddings, read_features(straight).embeddings)

    # Parts of other images are not used.
    done.clear()
    monkeypatch.setattr(extraction, "_embed_part", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        extraction.extract(config_for(tmp_path / "faces", weights, out))
    picture(99).save(tmp_path / "faces/person_0/still_0.png")
    again.clear()
    monkeypatch.setattr(extraction, "_embed_part", note_and_embed)
    extraction.extract(config_for(tmp_path / "faces", weights, out))
    assert len(again) == 5


def color_recogniser(order: str) -> Recogniser:
    """Sees people in its first channel alone; the last one is noise to it."""

    def run(images):
        vectors = images[:, ::16, ::16, 0].reshape(len(images), -1)
        vectors = vectors - vectors.mean(1, keepdims=True)
        norms = np.linalg.norm(vectors, axis=1)
        return vectors / norms[:, None], norms

    return Recogniser(BackboneCard("test", order, 127.5, 127.5, ""), run)


def test_color_order_doctor():
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(8), 6)
    faces = rng.integers(0, 256, (48, 112, 112, 3), dtype=np.uint8)
    looks = rng.integers(0, 128, (8, 112, 112), dtype=np.uint8)
    faces[..., 0] = faces[..., 0] // 2 + looks[subject]  # people differ in red
    rows = sample_rows(subject)
    assert len(rows) == 48
    good, bad = (examine(color_recogniser(order), faces, subject) for order in ("rgb", "bgr"))
    assert not good.looks_wrong and bad.looks_wrong
    assert good.stated == bad.swapped > 1 > abs(good.swapped)
    grey = np.repeat(faces[..., :1], 3, -1)
    assert not examine(color_recogniser("rgb"), grey, subject).looks_wrong
    assert len(sample_rows(np.array([0, 1, 2]))) == len(sample_rows(np.array([UNKNOWN_SUBJECT] * 9))) == 0
    many = sample_rows(np.repeat(np.arange(100), 20))
    assert len(many) == 32 * 8 and len(set((many // 20).tolist())) == 32


def run_process(*arguments) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "fpsset.main",
        f"--config={ROOT}/configs/extract.py",
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240)


def test_bad_input_as_processes(tmp_path, weights):
    write_people(tmp_path / "faces", people=2, each=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad/ann").mkdir(parents=True)
    (tmp_path / "bad/ann/a.png").write_text("no image")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "x.onnx").write_text("no network")
    given = {"images": tmp_path / "faces", "weights": weights, "out": tmp_path / "out/F.npz"}
    stated = {"color_order": "bgr", "mean": 127.0, "std": 128.0}
    cases = [
        ({"images": ""}, "config.images is empty"),
        ({"images": tmp_path / "empty"}, "no image in a folder per person"),
        ({"images": tmp_path / "bad"}, "none of 1 images could be read"),
        ({"weights": tmp_path / "none"}, "no such weights"),
        ({"weights": tmp_path / "x.onnx"}, "config.color_order is not given"),
        ({"weights": tmp_path / "x.onnx", **stated}, "cannot be read as ONNX"),
        ({"color_order": "bgr"}, "images are rgb, not bgr"),
        ({"std": 0.0}, "config.std is 0.0"),
        ({"out": tmp_path / "F.csv"}, "ends in .npz or .parquet"),
        ({"mode": "eval"}, "config.mode is 'eval'"),
        ({"out": tmp_path}, "ends in .npz or .parquet"),
        ({"out": tmp_path / "folder.npz"}, "is a folder"),
        ({"batch_size": 0}, "config.batch_size is 0"),
    ]
    for changes, problem in cases:
        done = run_process(*(f"--config.{key}={value}" for key, value in {**given, **changes}.items()))
        lines = [line for line in done.stderr.splitlines() if line.startswith("fpsset:")]
        assert done.returncode == 2 and len(lines) == 1 and problem in lines[0], (changes, done.stderr)
        assert "Traceback" not in done.stderr and not (tmp_path / "out/F.npz").exists()


def test_real_faces(tmp_path, shared):
    """The command on real crops: columns, media, and templates of stills against those of clips."""
    out = tmp_path / "F.npz"
    done = run_process(
        f"--config.images={shared}/faces",
        f"--config.weights={shared}/models/mobilefacenet_512.onnx",
        f"--config.out={out}",
        "--config.color_order=bgr",
        "--config.mean=127",
        "--config.std=128",
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "colour order: separation of people" in done.stderr
    table = read_features(out)
    assert len(table) == 244 and len(np.unique(table.subject)) == 16
    clips = np.char.find(table.paths, "_frame_") >= 0
    for media in np.unique(table.media[clips]):
        names = table.paths[table.media == media]
        assert len({name.rpartition("_frame_")[0] for name in names}) == 1 and len(names) > 1
    assert len(np.unique(table.media[~clips])) == (~clips).sum()
    features = table.embeddings * table.norms[:, None]

    def means(kind):
        rows = [features[kind & (table.subject == person)].mean(0) for person in range(16)]
        return np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)

    ranks = (means(~clips) @ means(clips).T).argmax(1)
    assert (ranks == np.arange(16)).sum() >= 15


def test_a_wrong_colour_order_is_noticed(tmp_path, shared):
    done = run_process(
        f"--config.images={shared}/faces",
        f"--config.weights={shared}/models/mobilefacenet_512.onnx",
        f"--config.out={tmp_path}/F.npz",
        "--config.color_order=rgb",
        "--config.mean=127",
        "--config.std=128",
    )
    assert done.returncode == 0 and "warning: the colour order looks wrong" in done.stderr, done.stderr
