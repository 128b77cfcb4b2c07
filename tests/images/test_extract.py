"""Extraction of features: complete and interrupted runs, bad input, real faces."""

import os

import jax
import numpy as np
import pytest

import fpsset
import fpsset.images.extract as extraction
from fpsset.config import check_extraction_config, extraction_config
from fpsset.data.files import read_features
from fpsset.errors import InputError
from fpsset.images.aligned_faces import read_face
from fpsset.images.augmentation import Style
from fpsset.images.recognisers import Recogniser
from fpsset.runtime.locks import sole_use
from fpsset.weights.cards import BackboneCard
from tests.images.images import picture, write_ijb, write_people
from tests.served import serve
from tests.torch_files import TINY, random_variables, save, state_dict


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


def test_a_run_writes_features_and_lists_unreadable_images(tmp_path, weights, capsys):
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

    # The network gives the same embeddings when called directly.
    variables = fpsset.load_official(weights)["backbone"]
    faces = np.stack([read_face(tmp_path / "faces" / path) for path in read.paths])
    embeddings, norms = fpsset.embed(variables, (faces / 127.5 - 1).astype(np.float32))
    np.testing.assert_allclose(read.norms, norms, rtol=1e-4)
    assert (read.embeddings * embeddings).sum(1).min() > 0.99999
    (tmp_path / "faces/person_1/broken.png").unlink()
    extraction.extract(config_for(tmp_path / "faces", weights, out))
    assert not (tmp_path / "out/F.unreadable.txt").exists()


def test_loose_crops_are_aligned_and_embedded(tmp_path, weights, capsys):
    out = tmp_path / "F.parquet"
    extraction.extract(config_for(write_ijb(tmp_path / "ijb"), weights, out))
    read = read_features(out)
    np.testing.assert_array_equal(read.template, [7, 7, 9])
    assert read.backbone
    assert "colour order: not checked" in capsys.readouterr().err


def test_equal_norms_give_a_warning(tmp_path, weights, monkeypatch, capsys):
    write_people(tmp_path / "faces")

    def run(images):
        return np.eye(len(images), 8, dtype=np.float32), np.ones(len(images), np.float32)

    recogniser = Recogniser(BackboneCard("test", "rgb", 127.5, 127.5, ""), run)
    monkeypatch.setattr(extraction, "load_recogniser", lambda *_: recogniser)
    fields = {"check_color_order": False}
    extraction.extract(config_for(tmp_path / "faces", weights, tmp_path / "F.npz", **fields))
    assert "warning: all norms are equal" in capsys.readouterr().err


@pytest.mark.parametrize("flip", [False, True])
def test_an_image_whose_embedding_is_not_finite_is_left_out(tmp_path, weights, monkeypatch, flip):
    write_people(tmp_path / "faces")
    spoilt, calls = {4: np.nan, 7: 0.0}, [0]

    def run(images):
        embeddings = np.eye(len(images), 8, dtype=np.float32)
        for place in range(len(images)):
            row = calls[0] // (1 + flip) * 4 + place
            embeddings[place] *= spoilt.get(row, 1)
        calls[0] += 1
        return embeddings, np.arange(1, len(images) + 1, dtype=np.float32)

    recogniser = Recogniser(BackboneCard("test", "rgb", 127.5, 127.5, ""), run)
    monkeypatch.setattr(extraction, "load_recogniser", lambda *_: recogniser)
    config = config_for(tmp_path / "faces", weights, tmp_path / "F.npz", check_color_order=False, flip=flip)
    extraction.extract(config)
    kept = [f"person_{row // 3}/still_{row % 3}.png" for row in (0, 1, 2, 3, 5, 6, 8)]
    assert read_features(tmp_path / "F.npz").paths.tolist() == kept
    lines = (tmp_path / "F.unreadable.txt").read_text().splitlines()
    problem = "its embedding is not finite, or zero"
    assert lines == [f"person_1/still_1.png: {problem}", f"person_2/still_1.png: {problem}"]
    spoilt.update(dict.fromkeys(range(9), np.nan))
    calls[0] = 0
    with pytest.raises(fpsset.InputError, match="none of 9 images could be embedded"):
        extraction.extract(config)


def test_two_extractions_to_one_file_are_refused(tmp_path, weights):
    write_people(tmp_path / "faces", people=2, each=1)
    config = config_for(tmp_path / "faces", weights, tmp_path / "F.npz")
    with sole_use(tmp_path / "F.npz", "--config.out"):
        with pytest.raises(
            InputError, match=r"F\.npz: is in use by process \d+ on .* give another --config.out"
        ):
            extraction.extract(config)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_an_interrupted_run_continues(tmp_path, weights, monkeypatch):
    write_people(tmp_path / "faces", people=4, each=5)
    out, straight = tmp_path / "F.npz", tmp_path / "straight.npz"

    def extract(out):
        return extraction.extract(config_for(tmp_path / "faces", weights, out, check_color_order=False))

    extract(straight)
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
        extract(out)
    assert not out.exists() and len(list((tmp_path / ".F.npz.parts").glob("*.npz"))) == 3
    monkeypatch.setattr(extraction, "_embed_part", note_and_embed)
    extract(out)
    assert again == [range(12, 16), range(16, 20)]
    assert not (tmp_path / ".F.npz.parts").exists()
    with np.load(out) as ours, np.load(straight) as theirs:
        assert set(ours.files) == set(theirs.files)
        for column in ours.files:
            np.testing.assert_array_equal(ours[column], theirs[column])

    # A truncated part is computed again, and images that became readable are read.
    done.clear()
    broken = tmp_path / "faces/person_0/still_2.png"
    whole, stat = broken.read_bytes(), broken.stat()
    broken.write_bytes(bytes(len(whole)))
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setattr(extraction, "_embed_part", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        extract(out)
    (tmp_path / ".F.npz.parts/000000004.npz").write_bytes(b"")
    broken.write_bytes(whole)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again.clear()
    monkeypatch.setattr(extraction, "_embed_part", note_and_embed)
    extract(out)
    assert [part.start for part in again] == [0, 4, 12, 16]
    np.testing.assert_array_equal(read_features(out).embeddings, read_features(straight).embeddings)

    # Parts of other images are not used.
    done.clear()
    monkeypatch.setattr(extraction, "_embed_part", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        extract(out)
    picture(99).save(tmp_path / "faces/person_0/still_0.png")
    again.clear()
    monkeypatch.setattr(extraction, "_embed_part", note_and_embed)
    extract(out)
    assert len(again) == 5


def test_augmented_clips_become_seeds(tmp_path, weights, monkeypatch):
    """Frames of a clip differ, and each depends only on its image and number."""
    write_people(tmp_path / "faces", people=2, each=3)

    def pooled(images):
        values = images.reshape(-1, 14, 8, 14, 8, 3).mean((2, 4)).reshape(len(images), -1)
        norms = np.linalg.norm(values, axis=1)
        return values / norms[:, None], norms

    recogniser = Recogniser(BackboneCard("test", "rgb", 127.5, 127.5, ""), pooled)
    monkeypatch.setattr(extraction, "load_recogniser", lambda *_: recogniser)
    clips = {"augmented": 2, "clip_frames": 2, "check_color_order": False, "batch_size": 2}
    out, straight = tmp_path / "F.npz", tmp_path / "straight.npz"
    table = extraction.extract(config_for(tmp_path / "faces", weights, straight, **clips))
    assert len(table) == 6 * 2 * 2
    np.testing.assert_array_equal(table.seed, np.arange(12).repeat(2))
    np.testing.assert_array_equal(table.media, np.arange(6).repeat(4))
    cosines = read_features(straight).embeddings @ read_features(straight).embeddings.T
    assert (cosines - np.eye(24)).max() < 0.99999

    face = read_face(tmp_path / "faces" / table.paths[20])
    key, faces = jax.random.key(0), np.stack([face] * 2)
    frames = np.concatenate(
        [
            extraction._augment(key, faces, np.full(2, clip), np.arange(2 * clip, 2 * clip + 2), Style())
            for clip in (10, 11)
        ]
    )
    embeddings, norms = pooled(2 * frames - 1)
    np.testing.assert_allclose(table.norms[20:], norms, rtol=1e-4)
    assert (read_features(straight).embeddings[20:] * embeddings).sum(1).min() > 0.9999

    # Resuming gives the same features, and leaving out an image only removes its rows.
    done, embed_part = [], extraction._embed_part

    def stop_after_one(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(arguments)
        return embed_part(*arguments)

    monkeypatch.setattr(extraction, "_embed_part", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        extraction.extract(config_for(tmp_path / "faces", weights, out, **clips))
    monkeypatch.setattr(extraction, "_embed_part", embed_part)
    extraction.extract(config_for(tmp_path / "faces", weights, out, **clips))
    np.testing.assert_array_equal(read_features(out).embeddings, read_features(straight).embeddings)
    (tmp_path / "faces/person_0/still_1.png").write_text("no image")
    fewer = extraction.extract(config_for(tmp_path / "faces", weights, out, **clips))
    kept = table.media != 1
    np.testing.assert_array_equal(fewer.seed, table.seed[kept])
    np.testing.assert_allclose(fewer.norms, table.norms[kept], rtol=1e-3)
    other = extraction.extract(config_for(tmp_path / "faces", weights, out, **clips, seed=1))
    assert np.abs(other.norms - fewer.norms).max() > 0.01


def test_bad_input_exits_with_one_line(tmp_path, weights):
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
        ({"images": tmp_path / "bad"}, "none of 1 images could be embedded"),
        ({"weights": tmp_path / "none"}, "no such weights"),
        ({"weights": tmp_path / "x.onnx"}, "--config.color_order, --config.mean, --config.std"),
        ({"weights": tmp_path / "x.onnx", **stated}, "cannot be read as ONNX"),
        ({"color_order": "bgr"}, "images are rgb, not bgr"),
        ({"std": 0.0}, "config.std is 0.0"),
        ({"out": tmp_path / "F.csv"}, "ends in .npz or .parquet"),
        ({"mode": "eval"}, "config.mode is 'eval'"),
        ({"out": tmp_path}, "ends in .npz or .parquet"),
        ({"out": tmp_path / "folder.npz"}, "is a folder"),
        ({"batch_size": 0}, "config.batch_size is 0"),
        ({"augmented": -1}, "config.augmented is -1"),
    ]
    for changes, problem in cases:
        fields = {**given, **changes}
        _, err = serve("extract.py", *(f"--config.{key}={value}" for key, value in fields.items()), code=2)
        lines = [line for line in err.splitlines() if line.startswith("fpsset:")]
        assert len(lines) == 1 and problem in lines[0], (changes, err)
        assert "Traceback" not in err and not (tmp_path / "out/F.npz").exists()


def test_real_faces_are_extracted_with_their_people_and_media(tmp_path, shared):
    """Templates of stills match those of clips of the same person."""
    out = tmp_path / "F.npz"
    _, err = serve(
        "extract.py",
        f"--config.images={shared}/faces",
        f"--config.weights={shared}/models/mobilefacenet_512.onnx",
        f"--config.out={out}",
        "--config.color_order=bgr",
        "--config.mean=127",
        "--config.std=128",
    )
    assert "warning" not in err
    assert "colour order: separation of people" in err
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


def test_a_wrong_colour_order_gives_a_warning(tmp_path, shared):
    """On the first four stills of the first eight people."""
    for person in sorted((shared / "faces").glob("person_*"))[:8]:
        (folder := tmp_path / "faces" / person.name).mkdir(parents=True)
        for still in sorted(person.glob("still_*"))[:4]:
            (folder / still.name).symlink_to(still)
    _, err = serve(
        "extract.py",
        f"--config.images={tmp_path}/faces",
        f"--config.weights={shared}/models/mobilefacenet_512.onnx",
        f"--config.out={tmp_path}/F.npz",
        "--config.color_order=rgb",
        "--config.mean=127",
        "--config.std=128",
    )
    assert "warning: the colour order looks wrong" in err


def test_preparing_loose_crops_embeds_them_once(tmp_path, weights, capsys):
    """`configs/prepare.py:ijbc --config.weights=...`, run twice."""
    from fpsset.commands.runs import run_preparation
    from fpsset.config import preparation_config
    from fpsset.datasets.prepared import read_prepared

    write_ijb(tmp_path / "ijb")
    (tmp_path / "ijb/meta/ijbc_template_pair_label.txt").write_text("7 9 0\n")
    config = preparation_config()
    config.update(
        dataset="ijbc", source=str(tmp_path / "ijb"), out=str(tmp_path / "out"), weights=str(weights)
    )
    run_preparation(config)
    folder = tmp_path / "out/ijbc/1.0.0"
    assert capsys.readouterr().out == f"{folder}: 2 records\n"
    held = read_prepared(folder)
    np.testing.assert_array_equal(held.table.template, [7, 7, 9])
    assert held.table.backbone and list(held.search.galleries) == ["G1"]
    config.features = ""
    (tmp_path / "ijb/loose_crop/1.jpg").unlink()
    run_preparation(config)
    assert capsys.readouterr().out.endswith("is already prepared from this source\n")

    config.update(features="", weights=str(tmp_path / "x.onnx"))
    with pytest.raises(fpsset.InputError, match="does not specify its input"):
        run_preparation(config)


def test_features_of_mirrored_images_and_detector_scores_are_written(tmp_path, weights):
    """With `--config.flip=True`, and with scores in the landmark list."""
    out = tmp_path / "F.npz"
    root = write_ijb(tmp_path / "ijb")
    extraction.extract(config_for(root, weights, out, flip=True))
    read = read_features(out)
    np.testing.assert_allclose(read.score, 0.99, rtol=1e-6)
    variables = fpsset.load_official(weights)["backbone"]
    images = extraction.list_images(root)
    faces = np.stack([extraction.read_row(images, row) for row in range(3)])
    for view, found in ((faces, read.norms[:, None] * read.embeddings), (faces[:, :, ::-1], read.flipped)):
        embeddings, norms = fpsset.embed(variables, (view / 127.5 - 1).astype(np.float32))
        np.testing.assert_allclose(found, norms[:, None] * embeddings, atol=2e-3 * norms.max())
    with pytest.raises(fpsset.InputError, match=r"config.flip is True"):
        config_for(root, weights, out, flip=True, augmented=1)
