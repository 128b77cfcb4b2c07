"""Every public name has an example that runs, and says what it is when printed."""

import doctest
import inspect

import numpy as np
import pytest

import fpsset
from tests.published import write_published
from tests.sets import make_set

PUBLIC = sorted(fpsset.__all__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the examples read: a converted model as runs/quickstart, and a published checkpoint."""
    folder = tmp_path_factory.mktemp("examples")
    write_published(folder)
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = doctest.DocTestFinder(exclude_empty=True).find(getattr(fpsset, name), name, globs={})
    documented = getattr(fpsset, name)
    assert any(test.examples for test in found), f"{name} has no example"
    assert inspect.getdoc(documented)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_printed_objects_say_what_they_are(aggregator):
    embeddings, norms = make_set(0, 9)
    plain, ids = fpsset.PlainAggregator(), np.arange(9) % 2
    shown = {
        repr(aggregator): "Aggregator('model', 3 picks, embeddings 16 wide)",
        repr(plain): "PlainAggregator('plain: nothing learned, gamma 0.35, norm-weighted mean', 3 picks, "
        "embeddings any width)",
        repr(plain.aggregate(embeddings, norms, ids)): "Aggregated(2 sets, descriptors 16 wide, "
        "3 picks each)",
        repr(plain.explain(embeddings, norms)): "Explanation(9 faces, picks ",
        repr(plain.pad([embeddings], [norms])): "FaceSet(embeddings=float32[1,9,16], norms=float32[1,9], "
        "mask=bool[1,9])",
        repr(fpsset.StreamingAggregator(plain, 8)): "StreamingAggregator(0 faces, 0 of 8 representatives)",
    }
    for text, wanted in shown.items():
        assert text.startswith(wanted) and len(text) < 200
