"""From photos and videos to a feature table: whose faces, in which media, and what is left out."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from fpsset.config import check_extraction_config, extraction_config
from fpsset.data.files import read_features
from fpsset.errors import InputError
from fpsset.images.extract import extract
from fpsset.images.finding import Finder, FindingOptions
from fpsset.images.finding_parts import forget_parts, stretches_of
from fpsset.images.photo_faces import find_photo_faces
from fpsset.images.photo_listing import list_sources
from fpsset.images.recognisers import load_recogniser
from tests.images.images import picture
from tests.images.photos import YUNET, photo, write_video

BATCH = 4  # each batch is filled up
CROPS = FindingOptions(None, batch_size=BATCH)


@pytest.fixture(scope="module")
def recogniser(shared):
    fields = {"color_order": "bgr", "mean": 127.0, "std": 128.0, "dtype": "float32"}
    return load_recogniser(ConfigDict({"weights": str(shared / "models/mobilefacenet_512.onnx"), **fields}))


@pytest.fixture(scope="module")
def options(shared):
    return FindingOptions(shared / YUNET, batch_size=BATCH)


@pytest.fixture(scope="module")
def album(shared, tmp_path_factory):
    """Three photos of person 0, two with a larger stranger; one of nobody, and a damaged one."""
    root, faces = tmp_path_factory.mktemp("album"), shared / "faces"
    folder = root / "anna"
    folder.mkdir()
    for number in range(3):
        placed = [(f"person_00/still_{number}.png", (150, 150), 110, 10 * number)]
        if number:
            placed.append((f"person_0{number + 2}/still_0.png", (450, 300), 220, 0))
        if number == 2:
            placed.append(("person_09/still_1.png", (60, 430), 30, 0))
        photo(faces, placed, number)[0].save(folder / f"{number}.jpg", quality=95)
    photo(faces, [], 7)[0].save(folder / "nobody.jpg")
    (folder / "torn.jpg").write_bytes((folder / "0.jpg").read_bytes()[:5000])
    return root


def test_the_person_of_a_folder(album, recogniser, options, tmp_path):
    found = find_photo_faces(list_sources([album]), recogniser, options)
    table = found.table
    assert [path.rpartition("/")[2] for path in table.paths] == ["0.jpg", "1.jpg", "2.jpg"]
    assert (table.subject == 0).all() and found.people == {0: "anna"} and table.media.tolist() == [0, 1, 2]
    assert np.isnan(table.time).all() and (table.score > 0.8).all()
    centres = table.box[:, :2] + table.box[:, 2:] / 2
    np.testing.assert_allclose(centres, 150, atol=15)
    assert found.image(0).shape == (112, 112, 3)
    said = {(one.name.rpartition("/")[2], one.kind): one.count for one in found.left_out}
    assert said == {
        ("nobody.jpg", "no face"): 1,
        ("torn.jpg", "unreadable"): 1,
        ("2.jpg", "too small"): 1,
        ("1.jpg", "other people"): 1,
        ("2.jpg", "other people"): 1,
    }
    # The same faces, as nobody is known; then the person is recognised by features of the folder.
    loose = find_photo_faces(list_sources([album / "anna"]), recogniser, options)
    assert (loose.table.subject == -1).all() and len(loose.table) == 5 and len(loose.several) == 2
    known = find_photo_faces(list_sources([album / "anna"]), recogniser, options, table)
    assert known.table.subject.tolist().count(0) == 3


def test_an_interrupted_search_goes_on(album, recogniser, options, tmp_path, monkeypatch):
    whole = find_photo_faces(list_sources([album]), recogniser, options).table
    out = tmp_path / "f.npz"
    again = find_photo_faces(list_sources([album]), recogniser, options, out=out).table
    np.testing.assert_array_equal(again.embeddings, whole.embeddings)
    folder = next(tmp_path.iterdir())
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("fpsset.images.finding.Finder.see", lambda *_: pytest.fail("looked again"))
    kept = find_photo_faces(list_sources([album]), recogniser, options, out=out).table
    np.testing.assert_array_equal(kept.embeddings, whole.embeddings)
    (folder / "000000000.npz").write_bytes(b"damaged")
    with pytest.raises(pytest.fail.Exception):
        find_photo_faces(list_sources([album]), recogniser, options, out=out)
    forget_parts(out)
    assert list(tmp_path.iterdir()) == []


def test_a_config_extracts_photos(album, shared, tmp_path):
    config = extraction_config()
    config.update(images=str(album), weights=str(shared / "models/mobilefacenet_512.onnx"))
    config.update(out=str(tmp_path / "f.npz"), detector=str(shared / YUNET))
    config.update(color_order="bgr", mean=127.0, std=128.0, batch_size=BATCH)
    check_extraction_config(config)
    table = extract(config)
    assert len(table) == 3 and read_features(tmp_path / "f.npz").subject.tolist() == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.left_out.txt", "f.npz"]
    for field, value in {"flip": True, "folder_is_video": True, "media_pattern": "(.*)-"}.items():
        with pytest.raises(InputError, match=f"config.detector is .* empty with {field},"):
            check_extraction_config(ConfigDict({**config.to_dict(), field: value}))


def test_nothing_to_be_found(tmp_path, recogniser, options):
    picture(0, 200).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no face found in 1 photos"):
        find_photo_faces(list_sources([tmp_path]), recogniser, options)


def test_aligned_crops_need_no_detector(shared, recogniser):
    found = find_photo_faces(list_sources([shared / "faces/person_00"], "anna"), recogniser, CROPS)
    assert len(found.table) == len(list((shared / "faces/person_00").iterdir())) and not found.left_out


@pytest.fixture(scope="module")
def film(shared, tmp_path_factory):
    """Ten frames of two people apart, who change places at a cut in the middle."""
    frames = []
    for number in range(20):
        left, right = ("person_00", "person_01")[:: 1 if number < 10 else -1]
        placed = [
            (f"{left}/clip0_frame_{number // 2 % 5}.png", (150 + 3 * number, 200), 120, 0),
            (f"{right}/clip0_frame_{number // 2 % 5}.png", (480 - 3 * number, 260), 120, 0),
        ]
        frames.append(np.asarray(photo(shared / "faces", placed, number // 10)[0]))
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, frames)
    return path


@pytest.fixture(scope="module")
def filmed(film, recogniser, options):
    """The faces of the film."""
    return find_photo_faces(list_sources([film]), recogniser, options).table


def test_people_of_a_video_are_told_apart(shared, film, filmed, recogniser, options, tmp_path):
    table = filmed
    for name in ("person_00", "person_01"):
        (folder := tmp_path / "two" / name).mkdir(parents=True)
        for still in (shared / "faces" / name).glob("still_*"):
            (folder / still.name).symlink_to(still)
    own = find_photo_faces(list_sources([tmp_path / "two"]), recogniser, CROPS).table
    mean = np.stack([own.embeddings[own.subject == person].mean(0) for person in range(2)])
    cosines = table.embeddings @ mean.T
    who = cosines.argmax(1)
    clear = np.ptp(cosines, axis=1) > 0.2  # a poor frame looks like neither
    for ids in (table.media, table.subject):
        assert all(len(set(who[clear & (ids == i)].tolist())) <= 1 for i in set(ids.tolist()))
    assert len(set(table.media[clear].tolist())) == 4 and len(set(table.subject[clear].tolist())) == 2
    np.testing.assert_allclose(np.unique(table.time), np.arange(10) / 5, atol=0.02)
    known = find_photo_faces(list_sources([film]), recogniser, options, own).table
    np.testing.assert_array_equal(known.subject[clear], who[clear])
    one = find_photo_faces(list_sources([film, tmp_path / "two/person_01"], "ben"), recogniser, options)
    assert set(who[[path.endswith("mp4") for path in table.paths]]) == {0, 1}
    assert sum(left.kind == "other people" for left in one.left_out) == 1
    moving = ~np.isnan(one.table.time)
    assert (one.table.embeddings[moving] @ mean.T).argmax(1).tolist() == [1] * int(moving.sum())


def test_long_videos_are_divided(film, filmed, recogniser, options, monkeypatch):
    """Stretches of half a second give the faces that one stretch gives, wherever the search begins."""
    items = list_sources([film]).items
    monkeypatch.setattr("fpsset.images.finding_parts._SECONDS", 0.5)
    assert len(stretches_of(items, 5.0)[0]) == 4
    parts = find_photo_faces(list_sources([film]), recogniser, options).table

    class Forgetful(Finder):
        def see(self, stretch, advance):
            self._video = None  # as after an interruption
            return super().see(stretch, advance)

    monkeypatch.setattr("fpsset.images.photo_faces.Finder", Forgetful)
    sought = find_photo_faces(list_sources([film]), recogniser, options).table
    for found in (parts, sought):
        np.testing.assert_array_equal(found.time, filmed.time)
        np.testing.assert_array_equal(found.media, filmed.media)
        np.testing.assert_allclose(found.embeddings, filmed.embeddings, atol=2e-3)
