"""Images are listed from folders of people, IJB's loose crops and landmark lists."""

import os

import numpy as np
import pytest

from fpsset.config import extraction_config
from fpsset.data.face_lists import read_landmarks
from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.errors import InputError
from fpsset.images.aligned_faces import ARCFACE_112
from fpsset.images.listing import list_images, list_person
from tests.images.images import picture, write_ijb, write_people

PATTERN = extraction_config().media_pattern


def test_folders_give_people_and_videos(tmp_path):
    names = [
        "ann/still_0.png", "ann/clip0_frame_0.png", "ann/clip0_frame_1.JPG", "ann/clip1-frame7.png",
        "bob/video/0001.jpg", "bob/video/0002.jpg", "bob/clip0_frame_0.png",
    ]  # fmt: skip
    for name in [*names, "bob/notes.txt", "stray.png", "bob/.hidden.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images = list_images(tmp_path, "", PATTERN, folder_is_video=True)
    assert sorted(images.paths) == sorted(names) and set(images.ignored) == {"bob/notes.txt", "stray.png"}
    subject, media = (
        dict(zip(images.paths, c.tolist(), strict=True)) for c in (images.subject, images.media)
    )
    assert subject["ann/still_0.png"] == 0 and subject["bob/video/0001.jpg"] == 1
    assert media["ann/clip0_frame_0.png"] == media["ann/clip0_frame_1.JPG"] != media["bob/clip0_frame_0.png"]
    assert media["bob/video/0001.jpg"] == media["bob/video/0002.jpg"]
    images = list_images(tmp_path, "", PATTERN)  # unless asked, a folder is no video
    media = dict(zip(images.paths, images.media.tolist(), strict=True))
    assert media["bob/video/0001.jpg"] != media["bob/video/0002.jpg"]
    assert len(set(media.values())) == 6


def test_loose_crops_take_templates_and_people_from_the_lists(tmp_path):
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
        ("ijbc_name_5pts_score.txt", "1.jpg" + " x" * 10 + "\n", "line 1: could not convert"),
        ("ijbc_name_5pts_score.txt", "", "is empty"),
        ("ijbc_face_tid_mid.txt", "2.jpg 7 70\n1.jpg 7 71\n3.jpg 9 72\n", "same order"),
        ("ijbc_face_tid_mid.txt", "1.jpg 7\n", "line 1 has 2 fields"),
        ("ijbc_face_tid_mid.txt", "1.jpg 7 x\n2.jpg 7 71\n3.jpg 9 72\n", "invalid literal"),
        ("ijbc_1N_gallery_G1.csv", "A,B\n7,5\nx,5\n", "line 3 is not"),
        ("ijbc_1N_gallery_G1.csv", f"A,B\n7,{10**30}\n", "line 2 is not"),
        ("ijbc_1N_gallery_G1.csv", b"A,B,\xe9\n", "line 1 is not"),
        ("ijbc_face_tid_mid.txt", f"1.jpg {10**30} 7\n2.jpg 7 71\n3.jpg 9 72\n", "too large"),
        ("other_name_5pts_score.txt", "1.jpg\n", "holds 2 files"),
    ],
)
def test_a_malformed_list_is_refused(tmp_path, file, text, problem):
    root = write_ijb(tmp_path)
    (tmp_path / "meta" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=problem):
        list_images(root, "", PATTERN)


def test_a_folder_without_images_and_an_invalid_pattern_are_refused(tmp_path):
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


def test_names_in_a_landmark_list_are_relative_paths(tmp_path):
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


def test_68_landmarks_are_read_as_five(tmp_path):
    points = np.random.default_rng(0).uniform(0, 200, (2, 68, 2)).round(3)
    file = tmp_path / "marks.txt"
    lines = [f"{i}.jpg " + " ".join(map(str, face.ravel())) for i, face in enumerate(points)]
    file.write_text("\n".join(f"{line} 0.5" for line in lines))
    found = read_landmarks(file)
    np.testing.assert_allclose(found.landmarks[:, 0], (points[:, 36] + points[:, 39]) / 2)
    np.testing.assert_allclose(found.landmarks[:, 1], (points[:, 42] + points[:, 45]) / 2)
    np.testing.assert_array_equal(found.landmarks[:, 2:], points[:, [30, 48, 54]])
    assert found.score.tolist() == [0.5, 0.5]
    file.write_text("\n".join([lines[0], "1.jpg" + " 1 2" * 5]))
    with pytest.raises(InputError, match=r"line 2 has not 68 points, as line 1"):
        read_landmarks(file)


def test_folders_that_link_to_each_other_end(tmp_path):
    for name, other in (("ann", "bob"), ("bob", "ann")):
        (tmp_path / name).mkdir()
        picture(1).save(tmp_path / name / "still.png")
        (tmp_path / name / "friend").symlink_to(tmp_path / other)
    assert list_images(tmp_path, "", PATTERN).paths == [
        *("ann/friend/still.png", "ann/still.png", "bob/friend/still.png", "bob/still.png")
    ]


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "a\nb", "a\x1b[31mb", "a\u2028b"])
def test_a_file_name_that_is_not_text_is_refused(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    picture(0).save(folder / "a.png")
    with pytest.raises(InputError, match="not plain text"):
        list_images(tmp_path, "", PATTERN)


def test_names_with_unusual_blanks_are_read(tmp_path):
    names = [f"ann/Screenshot 10.15.30{blank}AM.png" for blank in ("\u202f", "\xa0", "\u200c")]
    (tmp_path / "ann").mkdir()
    for name in names:
        picture(0).save(tmp_path / name)
    (tmp_path / "ann/note\n.txt").touch()
    assert sorted(list_images(tmp_path, "", PATTERN).paths) == sorted(names)


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", ".AppleDouble", "__MACOSX"])
def test_folders_of_storage_systems_are_nobody(tmp_path, name):
    write_people(tmp_path, people=1, each=1)
    for folder in (tmp_path / name, tmp_path / "person_0" / name):
        folder.mkdir()
        picture(0).save(folder / "a.png")
    assert list_images(tmp_path, "", PATTERN).paths == ["person_0/still_0.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    write_people(tmp_path, people=2, each=1)
    scandir = os.scandir

    def refusing(folder):
        if str(folder).endswith("person_1"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"person_1: cannot be listed \(Permission denied\)"):
        list_images(tmp_path, "", PATTERN)


def test_files_that_are_not_read_are_counted_by_kind(tmp_path):
    write_people(tmp_path, people=1, each=1)
    for name in ("a.HEIC", "b.heic", "c.gif", "README"):
        (tmp_path / "person_0" / name).touch()
    expected = f"{tmp_path}: ignored 4 other files (2 .heic, 1 no suffix, 1 .gif), e.g. person_0/README"
    assert list_images(tmp_path).said_ignored() == expected
    person = list_person(tmp_path / "person_0")
    assert person.said_ignored().endswith("ignored 4 other files (2 .heic, 1 no suffix, 1 .gif), e.g. README")


def test_lists_next_to_a_folder_of_people_are_ignored(tmp_path):
    write_ijb(tmp_path)
    write_people(tmp_path / "mine", people=2, each=1)
    images = list_images(tmp_path / "mine", "", PATTERN)
    assert images.landmarks is None and len(images) == 2
