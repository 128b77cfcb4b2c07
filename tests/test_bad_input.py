"""Bad data and configs give one line and exit code 2, and create nothing.

Each test looks at one of the processes.
"""

import numpy as np
import pytest

from fpsset.data.files import write_features
from fpsset.data.synthetic import make_synthetic
from tests.forked import assert_refused, run_forked
from tests.runs import ROOT

BAD = {
    "missing_file": (["--config.data.train={tmp}/none.npz"], "none.npz: no such file"),
    "not_an_npz": (["--config.data.train={tmp}/text.npz"], "text.npz: cannot be read as an .npz"),
    "missing_column": (["--config.data.train={tmp}/no_norms.npz"], "no_norms.npz: no column 'norms'"),
    "wrong_column": (["--config.data.train={tmp}/float_subject.npz"], "float_subject.npz: 'subject' must be"),
    "other_width_in_training": (
        ["--config.data.eval={tmp}/narrow.npz"],
        "narrow.npz: embeddings are 16 wide",
    ),
    "other_backbone": (
        ["--config.data.train={tmp}/ours.npz", "--config.data.eval={tmp}/theirs.npz"],
        "theirs.npz: its embeddings come from the backbone bbbb, those of the model from aaaa",
    ),
    "unknown_person": (
        ["--config.data.train={tmp}/unknown.npz"],
        "unknown.npz: column 'subject' is negative",
    ),
    "nan": (["--config.data.train={tmp}/nan.npz"], "nan.npz: row 5 of 'embeddings'"),
    "zero_length": (["--config.data.eval={tmp}/zero.npz"], "row 5 of 'embeddings' has length zero"),
    "negative_norm": (
        ["--config.data.train={tmp}/negative.npz"],
        "row 5 of 'norms' is negative",
    ),
    "one_person": (["--config.data.eval={tmp}/alone.npz"], "alone.npz: column 'subject' holds 1 subject"),
    "template_of_two": (
        ["--config.data.eval={tmp}/shared.npz"],
        "template 0 spans subjects 0 and 1",
    ),
    "no_file_given": (["--config.data.train="], "config.data.train is empty"),
    "pairs": (["--config.data.eval={tmp}/sets.npz", "--config.data.pairs={tmp}/text.npz"], "text.npz: "),
    "pairs_of_nothing": (["--config.data.pairs={tmp}/text.npz"], "good.npz: no column 'template'"),
    "too_few_people": (["--config.data.holdout=0.1"], "good.npz: of the held-out people 4 impostor pairs"),
    "no_config": (["--config={tmp}/nope.py"], "nope.py"),
    "broken_config": (["--config={tmp}/broken.py"], "broken.py"),
    "no_workdir": (["--workdir="], "--workdir is empty"),
    "workdir_is_a_file": (["--workdir={tmp}/text.npz", "--config.data.holdout=0.5"], "cannot be written to"),
    "convention": (["--config.evaluation.convention=best"], "config.evaluation.convention is 'best'"),
    "nan_in_config": (["--config.head.margin=nan"], "config.head.margin is nan; it must be finite"),
    "milestones": (["--config.optimizer.milestones=(-5,)"], "config.optimizer.milestones is (-5,)"),
    "words_for_numbers": (["--config.model.temperature=('a','b')"], "config.model.temperature is ('a', 'b')"),
    "weights_when_training": (["--config.weights=x"], "config.weights is 'x'; it must be empty"),
    "unknown_key": (["--config.model.coreset_sise=3"], 'Did you mean "coreset_size"'),
    "another_kind_of_run": (["--config.mode=extract"], "config.mode is 'extract'"),
    "unknown_section": (["--config.optimiser.decay=1"], 'Did you mean "optimizer"'),
    "wrong_type": (["--config.steps=many"], "--config.steps=many"),
    "coreset_of_none": (
        ["--config.model.coreset_size=0"],
        "config.model.coreset_size is 0; it must be at",
    ),
    "heads": (
        ["--config.model.name=face_coreset_net", "--config.model.num_heads=5"],
        "config.model.num_heads is 5",
    ),
    "model": (
        ["--config.model.name=net"],
        "config.model.name is 'net'; it must be one of posterior, face_coreset_net",
    ),
    "a_medium_per_person": (
        ["--config.data.train={tmp}/stills.npz"],
        "stills.npz: no held-out person has two media to compare",
    ),
    "unknown_flag": (["--wrkdir=x"], "wrkdir"),
    "stray_word": (["train"], "'train' is not an option"),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("bad")
    table, _ = make_synthetic(12, 0, dim=32)
    write_features(tmp / "good.npz", table)
    with np.load(tmp / "good.npz") as file:
        good = dict(file)

    def write(name, **change):
        columns = {**good, **change}
        np.savez(tmp / f"{name}.npz", **{key: value for key, value in columns.items() if value is not None})

    fifth = np.arange(len(table)) == 5
    (tmp / "text.npz").write_text("hello\n")
    (tmp / "broken.py").write_text("def get_config(:\n")
    write("sets", template=good["subject"] * 2 + good["media"] % 2)
    write("no_norms", norms=None)
    write("stills", media=good["subject"])
    write("float_subject", subject=good["subject"].astype(float))
    write("narrow", embeddings=good["embeddings"][:, :16])
    write("ours", backbone=np.array("aaaa"))
    write("theirs", backbone=np.array("bbbb"))
    write("unknown", subject=np.full_like(good["subject"], -1))
    write("nan", embeddings=np.where(fifth[:, None], np.nan, good["embeddings"]))
    write("zero", embeddings=np.where(fifth[:, None], 0, good["embeddings"]))
    write("negative", norms=np.where(fifth, -1, good["norms"]))
    write("alone", subject=np.zeros(len(table), int))
    write("shared", template=np.zeros(len(table), int))
    given = [f"--config.data.train={tmp}/good.npz", f"--config.data.eval={tmp}/good.npz"]
    lines = {
        name: [
            f"--config={ROOT}/configs/features.py",
            f"--workdir={tmp}/{name}",
            *given,
            *(word.format(tmp=tmp) for word in words),
        ]
        for name, (words, _) in BAD.items()
    }
    return tmp, run_forked(lines)


@pytest.mark.parametrize("name", BAD)
def test_one_line_and_exit_code_2(failures, name):
    tmp, outcomes = failures
    before = assert_refused(outcomes[name], BAD[name][1])
    # Where all that is named exists, the run says first where its results will go.
    assert not before or before == [f"results go to {tmp}/{name}"] or name == "workdir_is_a_file"
    assert not (tmp / name).exists()
