"""TensorBoard files and metrics.jsonl, read back."""

import itertools
import json
import struct
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from fpsset.errors import InputError
from fpsset.face_set import group_rows
from fpsset.inference.descriptors import Descriptors
from fpsset.training.telemetry import Board, MetricsLog, selection_spread
from tests.damage import bits


def events(folder) -> list[Event]:
    """The events of all files, in order: records of a length, its checksum, bytes and their checksum."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            found.append(Event.FromString(data[place + 12 : place + 12 + length]))
            place += 16 + length
    return found


def scalars(folder) -> dict[tuple[int, str], float]:
    return {
        (event.step, value.tag): value.simple_value
        for event in events(folder)
        for value in event.summary.value
        if value.WhichOneof("value") == "simple_value"
    }


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((7, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    norms = np.arange(1, 8, dtype=np.float32)
    return group_rows(embeddings, norms, np.array([0, 0, 0, 0, 1, 1, 2]))[1]


@pytest.fixture(scope="module")
def described():
    coreset = np.array([[3, 0, 2], [5, 4, -1], [6, -1, -1]])
    return Descriptors(np.eye(4, dtype=np.float32)[:3], np.array([9.0, 8.0, 7.0], np.float32), coreset)


def test_scalars_and_histograms_come_back(tmp_path, sets, described):
    with Board(tmp_path, 0) as board:
        board.write(5, loss=2.5, gamma=np.float32(0.25))
        board.validation(5, np.array([30, 31, 32]), sets, described)
    spread = selection_spread(sets.embeddings, described.coreset)
    assert scalars(tmp_path) == pytest.approx(
        {(5, "loss"): 2.5, (5, "gamma"): 0.25, (5, "picks/mean_spread"): np.nanmean(spread)}
    )
    histograms = {v.tag: v.histo for e in events(tmp_path) for v in e.summary.value if v.HasField("histo")}
    assert {tag: (h.num, h.min, h.max, h.sum) for tag, h in histograms.items() if "norm" in tag} == {
        "faces/norm": (7, 1, 7, 28),
        "picks/norm": (6, 1, 7, 4 + 1 + 3 + 6 + 5 + 7),
        "descriptors/norm": (3, 7, 9, 24),
    }
    assert histograms["picks/spread"].num == 2  # a set of one pick has none


def test_the_projector_shows_the_latest_descriptors(tmp_path, sets, described):
    with Board(tmp_path, 0) as board:
        board.validation(5, np.array([30, 31, 32]), sets, described)
        board.validation(6, np.array([30, 31, 32]), sets, described._replace(vectors=-described.vectors))
    (vectors,), (metadata,) = tmp_path.rglob("tensors.tsv"), tmp_path.rglob("metadata.tsv")
    np.testing.assert_array_equal(np.loadtxt(vectors), -np.eye(4)[:3])
    rows = [line.split("\t") for line in metadata.read_text().splitlines()]
    assert rows == [
        ["subject", "faces", "norm"],
        ["30", "4", "9.000"],
        ["31", "2", "8.000"],
        ["32", "1", "7.000"],
    ]
    config = (tmp_path / "projector_config.pbtxt").read_text()
    for path in (vectors, metadata):
        assert config.count(f'_path: "{path.relative_to(tmp_path)}"') == 1
    assert config.count("embeddings {") == 1


def test_a_resumed_run_hides_what_it_does_again(tmp_path):
    with Board(tmp_path, 10) as board:
        board.write(11, loss=1.0)
    starts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert starts == [11]


def test_spread_of_picks(sets):
    """The mean of (1 - cos) / 2 over pairs; NaN for one pick alone."""
    coreset = np.array([[3, 0, 2], [5, 4, -1], [6, -1, -1]])
    spread = selection_spread(sets.embeddings, coreset)
    for row, value in zip(coreset[:2], spread, strict=False):
        pairs = itertools.combinations(row[row >= 0], 2)
        distances = [(1 - sets.embeddings[a] @ sets.embeddings[b]) / 2 for a, b in pairs]
        assert value == pytest.approx(np.mean(distances), abs=1e-6)
    assert np.isnan(spread[2])
    opposite = np.array([[1.0, 0], [-1, 0], [1, 0]])
    np.testing.assert_allclose(selection_spread(opposite, np.array([[0, 1], [0, 2]])), [1, 0])


def test_nothing_is_written_unless_asked(tmp_path, sets, described, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with Board(None, 0) as board:
        board.write(1, loss=1.0)
        board.validation(1, np.arange(3), sets, described)
    with pytest.raises(InputError, match=r"pip install 'fpsset\[tensorboard\]'"):
        Board(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_damaged_lines_of_the_log_are_left_out(tmp_path, capsys):
    """Lines of later steps, which the run repeats, and an unfinished one go without a word."""
    path = tmp_path / "metrics.jsonl"
    bad = [b'{"step": 2, "loss": \x80}', b'{"step": "2"}', b"[2]", b'{"step": ' + b"9" * 5000 + b"}", b""]
    lines = [
        b'{"step": 1, "loss": 2.0}',
        *bad,
        b'{"step": 3, "loss": 1.0}',
        b'{"step": 4}',
        b'{"step": 5, "lo',
    ]
    path.write_bytes(b"\n".join(lines))
    with MetricsLog(path, 3) as log:
        log.write(4, loss=np.float32(0.5), other=np.nan)
    expected = [
        '{"step": 1, "loss": 2.0}',
        '{"step": 3, "loss": 1.0}',
        '{"step": 4, "loss": 0.5, "other": null}',
    ]
    assert path.read_text().splitlines() == expected
    assert capsys.readouterr().err == f"warning: {path}: left out {len(bad)} damaged lines\n"


def test_single_bits_and_cuts_of_the_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"step": {step}, "loss": {step / 8}}}' for step in range(20)]
    path.write_text("".join(line + "\n" for line in lines))
    for what in bits(path, 60, seed=0):
        MetricsLog(path, 30).__exit__()
        kept = path.read_text().splitlines()
        assert len(set(lines) - set(kept)) <= 2 or "cut" in what, what
        assert all(isinstance(json.loads(line)["step"], int) for line in kept), what
