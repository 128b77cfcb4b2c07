"""Converted weights on disk: what a stop, a full disk and damage leave of them."""

import json
import os
import resource

import numpy as np
import pytest

import fpsset
from fpsset.errors import InputError
from fpsset.runtime.digests import seal
from fpsset.weights.cards import AggregatorCard, read_weights, save_weights
from tests.damage import bits
from tests.torch_files import write


def test_a_failed_replacement_leaves_the_old_weights(tmp_path, official, monkeypatch):
    weights = fpsset.load_official(write(tmp_path / "a.ckpt", official))
    save_weights(tmp_path / "w", weights)
    before = sorted(p.name for p in tmp_path.iterdir())
    rename = os.replace

    def fail_at_the_second(source, target):
        if ".part-" in str(source):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        save_weights(tmp_path / "w", weights)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    fpsset.load(tmp_path / "w")


def test_a_full_disk_leaves_the_old_weights(tmp_path, official, capfd):
    """Simulated by a limit on file sizes, which fails writes as a full disk does."""
    weights = fpsset.load_official(write(tmp_path / "a.ckpt", official))
    save_weights(tmp_path / "w", weights)
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), sorted(tmp_path.rglob("*"))
    message = r"w: could not be written \(File too large\); the folder that was there is kept; raise"
    try:
        with pytest.raises(InputError, match=message):
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
            save_weights(tmp_path / "w", weights)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.rglob("*")) == before and "Traceback" not in capfd.readouterr().err
    fpsset.load(tmp_path / "w")


def test_single_bits_and_cuts_of_a_card_are_refused_or_change_nothing(tmp_path):
    model = fpsset.Aggregator({"gamma": np.float32(0.5)}, AggregatorCard(3, 4, dim=16, norm_scale=2.5))
    model.save(tmp_path / "w")
    path, expected = tmp_path / "w/card.json", read_weights(tmp_path / "w").card
    refused = 0
    for what in bits(path, 60, seed=0):
        try:
            assert read_weights(tmp_path / "w").card == expected, what
        except InputError as error:
            assert str(error).startswith(str(tmp_path)) and "\n" not in str(error), what
            refused += 1
    assert 60 < refused <= 75
    assert read_weights(tmp_path / "w").card == expected


def test_damaged_cards(tmp_path, official):
    weights = fpsset.load_official(write(tmp_path / "a.ckpt", official))
    path = tmp_path / "converted"
    save_weights(path, weights)
    card = json.loads((path / "card.json").read_text())
    fields = {key: value for key, value in card.items() if key != "seal"}
    old = fields | {"format": 1}  # as 0.1 wrote it
    for text, problem in [
        ("{", "card.json: cannot be read as JSON"),
        ("[]", "is a list, not a dict"),
        (json.dumps(card | {"format": 1}), "differs from what was saved"),
        (json.dumps(seal(fields | {"format": 99})), "another version"),
        (json.dumps(fields), "has no seal"),
        (json.dumps(old | {"aggregator": card["aggregator"] | {"norm_scale": "1"}}), "'norm_scale' is '1'"),
        (json.dumps(old | {"aggregator": card["aggregator"] | {"more": 1}}), "read as a card .*'more'"),
        (json.dumps({k: v for k, v in old.items() if k != "sha256"}), "cannot be read as a card"),
    ]:
        (path / "card.json").write_text(text)
        with pytest.raises(InputError, match=problem):
            fpsset.load(path)
    (path / "card.json").write_text(json.dumps(old))
    fpsset.load(path)
    (path / "card.json").write_text(json.dumps(card))
    (path / "variables/stray").touch()
    with pytest.raises(InputError, match="variables/stray: is missing, damaged or not part of these"):
        fpsset.load(path)
    (path / "variables/stray").unlink()
    fpsset.load(path)
    largest = max((f for f in (path / "variables").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{largest.name}: is missing, damaged"):
        fpsset.load(path)
