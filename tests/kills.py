"""Commands that are killed at random moments: what they leave, and what the same command makes of it.

`pytest -m kills` runs them; FPSSET_KILLS sets how many (200), FPSSET_KILLS_SEED when and how.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from tests.runs import ROOT, saved_state

IN_A_ROW = 5  # kills before the same command is left to finish
SMALL = (
    "--config.data.people=60 --config.data.eval_people=40 --config.data.dim=32 --config.batch_size=8 "
    "--config.steps=40 --config.eval_every=10 --config.log_every=5 --config.data.holdout=0.3 "
    "--config.evaluation.resamples=10 --config.model.name=face_coreset_net --config.model.num_heads=4"
).split()


class Command(NamedTuple):
    """A command to kill.

    Attributes:
      arguments: of the interpreter, given the folder of inputs and that of outputs.
      results: what must be as in an undisturbed run, given the folder of outputs.
      before: files that are copied to the outputs first, in the folder of inputs.
    """

    arguments: Callable[[pathlib.Path, pathlib.Path], list]
    results: Callable[[pathlib.Path], object]
    before: str = ""


def _run(config: str, *arguments) -> list:
    return ["-m", "fpsset.main", f"--config={ROOT}/configs/{config}", *arguments]


def _command(*arguments) -> list:
    return ["-m", "fpsset.commands.cli", *arguments]


def _text(name: str) -> Callable:
    return lambda out: (out / name).read_text()


def _columns(name: str) -> Callable:
    def read(out):
        with np.load(out / name) as file:
            return {column: file[column].tolist() for column in file.files}

    return read


def _trained(out: pathlib.Path) -> object:
    leaves = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(saved_state(out / "run", 40))]
    lines = (out / "run/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    return leaves, steps, (out / "run/results.json").read_text(), _report(out / "run/report")


def _report(folder: pathlib.Path) -> dict:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.csv"))} | {
        "files": sorted(path.name for path in folder.iterdir())
    }


def _converted(out: pathlib.Path) -> object:
    from fpsset.weights.cards import read_weights

    weights = dict(read_weights(out / "weights"))
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(weights)]


def _prepared(out: pathlib.Path) -> object:
    (folder,) = (out / "datasets/face_features/person").iterdir()
    return sorted((path.name, path.stat().st_size) for path in folder.iterdir())


COMMANDS = {
    "train": Command(
        lambda given, out: _run("quickstart.py", f"--workdir={out}/run", *SMALL),
        _trained,
    ),
    "fit": Command(lambda given, out: _command("fit", given / "faces.npz", out / "weights"), _converted),
    "extract": Command(
        lambda given, out: _run(
            "extract.py",
            *(f"--config.images={given}/images", f"--config.weights={given}/backbone.onnx"),
            *("--config.color_order=bgr", "--config.mean=127.5", "--config.std=127.5"),
            *(f"--config.out={out}/features.npz", "--config.batch_size=4", "--config.batches_per_part=1"),
        ),
        _columns("features.npz"),
    ),
    "calibrate": Command(
        lambda given, out: _command("calibrate", out / "model", given / "faces.npz", "--far", 0.01),
        _text("model/thresholds.json"),
        before="model",
    ),
    "report": Command(
        lambda given, out: _command("report", given / "a", given / "b", "--out", out / "report"),
        lambda out: _report(out / "report"),
    ),
    "convert": Command(
        lambda given, out: _command("convert", given / "FaceCoresetNet.ckpt", out / "weights"), _converted
    ),
    "prepare": Command(
        lambda given, out: _run(
            "prepare.py:face_features", f"--config.source={given}/faces.npz", f"--config.out={out}/datasets"
        ),
        _prepared,
    ),
}


def prepare_inputs(given: pathlib.Path) -> None:
    """Writes what the commands read, in seconds."""
    from fpsset.data.files import write_features
    from fpsset.data.synthetic import make_synthetic
    from tests.commands.backbone import write_onnx
    from tests.images.images import write_people
    from tests.published import write_published

    write_features(given / "faces.npz", make_synthetic(60, 0, dim=32)[0])
    write_onnx(given / "backbone.onnx")
    write_people(given / "images", people=8, each=4)
    write_published(given)
    finish(_command("fit", given / "faces.npz", given / "model"))
    for name, picks in (("a", 3), ("b", 2)):
        changed = ["--config.model.name=posterior", f"--config.model.coreset_size={picks}"]
        finish(_run("quickstart.py", f"--workdir={given}/{name}", *SMALL, *changed))


def start(arguments: list) -> subprocess.Popen:
    """Starts an interpreter."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def finish(arguments: list) -> float:
    """Lets a command end; returns the seconds it took."""
    began = time.monotonic()
    process = start(arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, (arguments, out, err)
    return time.monotonic() - began


def kill(
    arguments: list, seconds: float, number: signal.Signals, times: int, pause: float
) -> tuple[str, str]:
    """Starts a command, and kills it so many seconds after its first line.

    Returns:
      (what is wrong with how it ended, or '', its outcome).
    """
    process = start(arguments)
    while process.poll() is None and not _listens(process.pid):
        time.sleep(0.0005)
    time.sleep(seconds)
    for _ in range(times):
        if process.poll() is None:
            process.send_signal(number)
        time.sleep(pause)
    err = process.communicate(timeout=600)[1]
    code = process.returncode
    if number == signal.SIGKILL:
        return ("" if code in (0, -signal.SIGKILL) else f"exit code {code}: {err}"), f"{code}"
    lines = [line for line in err.splitlines() if line.startswith("fpsset: ")]
    problems = []
    if code not in (0, 130):
        problems.append(f"exit code {code}")
    if code and (lines != err.splitlines()[-1:] or "stopped" not in err):
        problems.append("not one line at the end")
    if re.search("Traceback|Exception|Error|Warning", err):
        problems.append("more than that line")
    return "; ".join(problems) and f"{number.name} x {times}: {'; '.join(problems)}:\n{err}", f"{code}"


def _listens(pid: int) -> bool:
    """Whether a process handles SIGTERM, as it does from its first line on."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def leftovers(out: pathlib.Path) -> set[str]:
    """Files and folders whose names are those of temporary ones."""
    pattern = re.compile(r"(^|/)\.|\.part|\.old|incomplete|orbax-checkpoint-tmp|\.tmp")
    names = (str(path.relative_to(out)) for path in out.rglob("*"))
    return {name for name in names if pattern.search(name)}


def trial(
    name: str, given: pathlib.Path, place: pathlib.Path, kills: int, seed: int
) -> tuple[list[str], Counter]:
    """Kills a command again and again, and lets it finish every few times.

    Returns:
      (what went wrong, outcomes by signal).
    """
    command, draw = COMMANDS[name], random.Random(f"{name} {seed}")
    wrong, outcomes = [], Counter()

    def fresh(folder: str) -> pathlib.Path:
        out = place / folder
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        if command.before:
            shutil.copytree(given / command.before, out / command.before)
        return out

    straight = fresh("straight")
    finish(command.arguments(given, straight))  # compiles
    straight = fresh("straight")
    whole = finish(command.arguments(given, straight))
    expected = command.results(straight)
    while kills:
        out = fresh("killed")
        for _ in range(min(IN_A_ROW, kills)):
            kills -= 1
            number = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            times = 1 if number == signal.SIGKILL else draw.choice([1, 1, 2, 3, 10])
            moment, pause = draw.uniform(0, whole), draw.choice([0, 0.001, 0.02])
            problem, outcome = kill(command.arguments(given, out), moment, number, times, pause)
            outcomes[f"{number.name} {outcome}"] += 1
            if problem:
                wrong.append(f"{name} after {moment:.2f} of {whole:.2f} s, {problem}")
            if outcome == "0":  # it was faster than the signal
                break
        try:
            whole = min(whole, finish(command.arguments(given, out)))
            if command.results(out) != expected:
                wrong.append(f"{name}: other results than those of an undisturbed run")
            if left := leftovers(out) - leftovers(straight):
                wrong.append(f"{name}: left {', '.join(sorted(left))}")
        except AssertionError as error:
            wrong.append(f"{name}: the same command failed: {error}")
    return wrong, outcomes
