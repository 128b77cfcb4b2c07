"""Training from images as real processes: resuming, features of clips, and bad input."""

import pathlib
import re
import runpy
import signal
import time

import jax
import numpy as np
import pytest

from fpsset.config import check_config, check_extraction_config
from tests.forked import run_forked
from tests.images.images import write_people
from tests.runs import ROOT, finish, saved_state, start
from tests.served import serve
from tests.torch_files import TINY, random_variables, save, state_dict

STEPS = 12
FEW = [
    "--config.model.name=face_coreset_net",
    "--config.model.coreset_size=1",  # compiles sooner
    f"--config.steps={STEPS}",
    "--config.batch_size=2",
    "--config.log_every=1",
    "--config.eval_every=100",
    "--config.data.max_size=3",
    "--config.data.holdout=0.5",
    "--config.evaluation.metric=tar@far=1e-1",
    "--config.evaluation.resamples=0",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of people, a backbone, and features of augmented clips."""
    tmp = tmp_path_factory.mktemp("images")
    write_people(tmp / "people", people=12, each=2)
    (tmp / "people/person_0/broken.png").write_text("no image")
    save(tmp / "tiny.pth", state_dict(random_variables(TINY), TINY, "net."))
    given = [f"--config.images={tmp}/people", f"--config.weights={tmp}/tiny.pth"]
    serve("extract.py", *given, f"--config.out={tmp}/clips.npz", "--config.augmented=1")
    return tmp


def from_images(folder: pathlib.Path, workdir: str) -> list[str]:
    return [
        f"--workdir={folder}/{workdir}",
        f"--config.data.train={folder}/people",
        "--config.data.source=images",
        f"--config.backbone.weights={folder}/tiny.pth",
        "--config.backbone.batch_size=3",
        "--config.backbone.check_color_order=False",
        "--config.head.init=random",  # the model's is computed from images
        f"--config.data.eval={folder}/clips.npz",
        *FEW,
    ]


def test_an_interrupted_run_resumes_to_the_same_bits(folder):
    _, err = serve("features.py", *from_images(folder, "straight"))
    process = start("features.py", *from_images(folder, "stopped"))
    metrics = folder / "stopped/metrics.jsonl"
    while not (metrics.is_file() and '"step": 3' in metrics.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stopped = int(re.search(r"stopped at step (\d+)", finish(process, 130)[1])[1])
    assert "unreadable:" in err and "broken.png: not a whole image" in err
    assert "1 of 25 images of" in err and "training on 12 images of 6 people, validating on 12 of 6" in err
    assert (folder / "straight/results.json").is_file()
    assert 3 <= stopped < STEPS
    assert f"from step {stopped}" in finish(start("features.py", *from_images(folder, "stopped")))[1]
    jax.tree.map(
        np.testing.assert_array_equal,
        saved_state(folder / "stopped", STEPS),
        saved_state(folder / "straight", STEPS),
    )


def test_features_of_clips_train_by_the_same_command(folder):
    arguments = [f"--config.data.train={folder}/clips.npz", f"--config.data.eval={folder}/clips.npz"]
    _, err = serve("features.py", f"--workdir={folder}/features", *arguments, *FEW)
    assert "training on 36 faces of 6 people" in err and (folder / "features/results.json").is_file()


@pytest.mark.parametrize("mode", ["images", "features", "eval"])
def test_the_published_recipe(mode):
    """Hyperparameters as FaceCoresetNet's paper and supplement give them."""
    config = runpy.run_path(f"{ROOT}/configs/webface4m.py")["get_config"](mode)
    if mode == "images":
        config.backbone.weights = "WEIGHTS"  # the user names them
    check_config(config)
    assert config.mode == ("eval" if mode == "eval" else "train")
    assert (config.model.coreset_size, config.model.num_heads, config.model.dropout_rate) == (3, 8, 0.1)
    assert config.model.gamma == 0.01
    head = {"name": "adaface", "margin": 0.8, "scale": 48.0, "h": 0.333, "t_alpha": 0.01}
    assert config.head.to_dict() == head | {"init": "random", "trained": True}
    assert (config.model.quality, config.model.init) == (False, "random")
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.decay) == (1e-4, 1e-3, 0.1)
    assert (optimizer.gamma_learning_rate, optimizer.clip_norm) == (1e-4, 1.0)
    assert (config.recipe.epochs, config.recipe.epoch, config.recipe.milestones) == (150, 0.1, (20,))
    assert (config.batch_size, config.data.max_size, config.data.max_clip) == (40, 20, 3)


def test_its_cache_is_an_extraction_of_clips():
    config = runpy.run_path(f"{ROOT}/configs/webface4m.py")["get_config"]("cache")
    config.update(images="DIR", weights="WEIGHTS", out="clips.npz")
    check_extraction_config(config)
    assert (config.augmented, config.clip_frames) == (4, 3)
    assert (config.channels, config.operations) == ("bgr", "ordered")


def test_bad_input(folder):
    write_people(folder / "three", people=3, each=1)
    (folder / "x.onnx").write_text("no network")
    cases = {
        "config.backbone.weights=": "images need a backbone: --config.backbone.weights=WEIGHTS",
        "config.data.source=features": "config.data.source is 'features'; give --config.data.source=images",
        f"config.backbone.weights={folder}/none": "none: no such weights; it embeds images",
        f"config.backbone.weights={folder}/x.onnx": "x.onnx: training cannot use an ONNX file",
        "config.backbone.color_order=bgr": "images are rgb, not bgr",
        "config.backbone.dtype=float16": "config.backbone.dtype is 'float16'",
        f"config.data.train={folder}/three": "three: column 'subject' holds 3 subject(s); at least 4",
        f"config.data.train={folder}/clips.npz": "clips.npz: has no images that can be read",
    }
    config = f"--config={ROOT}/configs/features.py"
    lines = {
        str(number): [config, *from_images(folder, "bad"), f"--{case}"] for number, case in enumerate(cases)
    }
    for ended, problem in zip(run_forked(lines).values(), cases.values(), strict=True):
        assert ended.code == 2 and problem in ended.err and "Traceback" not in ended.err, ended.err
        assert sum(line.startswith("fpsset:") for line in ended.err.splitlines()) == 1
    assert not (folder / "bad").exists()
