"""What is compared: fingerprints of it, and embeddings that do not go together."""

import types

import numpy as np
import pytest

from fpsset.errors import InputError
from fpsset.evaluation.identification import Search, Templates
from fpsset.evaluation.protocols import faces_fingerprint, protocol_fingerprint, require_backbone
from fpsset.evaluation.verification import all_pairs
from fpsset.face_set import group_rows


def test_every_part_of_a_protocol_enters_its_fingerprint():
    subjects, sizes = np.array([1, 1, 2]), np.array([2, 3, 1])
    one, two = (Templates(np.array([place]), np.array([1])) for place in (0, 1))
    given = {
        "subjects": subjects,
        "sizes": sizes,
        "pairs": all_pairs(subjects),
        "search": Search({"a": one}, two),
        "convention": "nearest",
    }
    changes = [
        {},
        {"subjects": subjects[::-1]},
        {"sizes": sizes[::-1]},
        {"pairs": all_pairs(subjects[::-1])},
        {"search": None},
        {"search": Search({"b": one}, two)},
        {"search": Search({"a": two}, two)},
        {"search": Search({"a": one}, one)},
        {"search": Search({"a": one, "b": one}, two)},
        {"convention": "conservative"},
    ]
    prints = [protocol_fingerprint(**(given | change)) for change in changes]
    assert len(set(prints)) == len(changes) and all(len(one) == 16 for one in prints)
    orders = [
        Search(dict(galleries), two) for galleries in ((("a", one), ("b", two)), (("b", two), ("a", one)))
    ]
    assert len({protocol_fingerprint(**(given | {"search": search})) for search in orders}) == 1


def test_every_face_enters_the_fingerprint_of_the_faces():
    embeddings, norms, media = np.eye(3, dtype="f"), np.float32([1, 2, 3]), np.array([1, 1, 2])
    _, sets = group_rows(embeddings, norms, np.array([0, 0, 1]), media)
    changed = [
        sets,
        sets._replace(embeddings=-embeddings),
        sets._replace(norms=norms[::-1]),
        sets._replace(media=media[::-1]),
        sets._replace(media=None),
        sets._replace(rows=sets.rows[::-1]),
        sets._replace(starts=np.array([0, 1, 3])),
    ]
    assert len({faces_fingerprint(one) for one in changed}) == len(changed)


def test_embeddings_of_another_backbone():
    table = types.SimpleNamespace(name="f.npz", dim=8, backbone="aa")
    for dim, backbone in ((0, ""), (8, ""), (8, "aa"), (0, "aa")):
        require_backbone(table, dim, backbone)
    require_backbone(types.SimpleNamespace(name="f.npz", dim=8, backbone=""), 8, "bb")
    for dim, backbone, said in (
        (
            16,
            "aa",
            "f.npz: embeddings are 8 wide but those of the model are 16; extract both with",
        ),
        (4, "aa", "8 wide .* are 4; .*; if each row is .* its mirror image's, give the first half$"),
        (8, "bb", "come from the backbone aa, those of the model from bb; extract both"),
    ):
        with pytest.raises(InputError, match=said):
            require_backbone(table, dim, backbone)
