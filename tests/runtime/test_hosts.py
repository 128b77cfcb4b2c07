"""Multi-process runs: after a kill and a stop of one process, resuming ends in the same bits."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from fpsset.errors import InputError
from fpsset.parallel.mesh import data_mesh
from fpsset.runtime import hosts
from tests.compiling import FLAGS
from tests.forked import Forked, run_two, start_two
from tests.runs import ROOT, few_people, saved_state, steps_logged

STEPS = 28
# Two devices a process, and a busy machine may stall a process for long.
_XLA = {
    "xla_force_host_platform_device_count": 2,
    "xla_cpu_collective_timeout_seconds": 600,
    "xla_cpu_collective_call_terminate_timeout_seconds": 600,
}
SETTINGS = {"XLA_FLAGS": " ".join([FLAGS, *(f"--{name}={value}" for name, value in _XLA.items())])}


def line(workdir: pathlib.Path) -> list[str]:
    """Of a run whose programs are kept beside its workdir."""
    fields = {"steps": STEPS, "eval_every": 7, "evaluation.resamples": 0, "log_every": 1}
    fields["model.coreset_size"] = 1  # compiles sooner
    return [
        *("fpsset.main", f"--config={ROOT}/configs/features.py", *few_people(workdir.parent)),
        *(f"--config.{name}={value}" for name, value in fields.items()),
        *(f"--workdir={workdir}", f"--config.compilation_cache={workdir.parent}/programs"),
    ]


def run_to_end(workdir: pathlib.Path) -> tuple[str, str]:
    """Runs two processes to their end; returns what both printed on stdout and on stderr."""
    ended = run_two(*line(workdir), **SETTINGS)
    assert [process.code for process in ended] == [0, 0], ended
    return "".join(process.out for process in ended), "".join(process.err for process in ended)


def wait_for_step(process: subprocess.Popen | Forked, workdir: pathlib.Path, step: int) -> None:
    """Returns once a step is logged, or else when the process ends or has had its time."""
    deadline = time.monotonic() + 240
    while max(steps_logged(workdir), default=0) < step:
        if process.poll() is not None or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def kill_one_of_the_launched(workdir: pathlib.Path, step: int) -> None:
    """Has the launcher start two processes, and kills the second once a step is logged."""
    command = [ROOT / "launch/local_processes.sh", "2", sys.executable, "-m", *line(workdir)]
    said = workdir.parent / "launcher.err"
    with said.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env={**os.environ, **SETTINGS, "GRACE": "0.2"})
    wait_for_step(process, workdir, step)
    if process.poll() is None:
        os.kill(int(re.search(r"process 1: pid (\d+)", said.read_text())[1]), signal.SIGKILL)
    process.wait()  # the launcher ends what is left
    assert process.returncode == 128 + signal.SIGKILL, said.read_text()


def stop_one(workdir: pathlib.Path, step: int) -> str:
    """Stops the second of two processes once a step is logged; returns what the first printed on stderr."""
    both = start_two(*line(workdir), **SETTINGS)
    wait_for_step(both[0], workdir, step)
    both[1].send_signal(signal.SIGTERM)
    ended = [process.ended() for process in both]
    assert [process.code for process in ended] == [130, 130], ended
    return ended[0].err


def test_killed_and_stopped_processes_resume_to_the_same_state(tmp_path):
    straight, disturbed = tmp_path / "straight", tmp_path / "disturbed"
    out, err = run_to_end(straight)
    assert (
        out.count("achieved FAR") == 1 and err.count("validation_tar") == STEPS // 7
    )  # one of the two writes

    kill_one_of_the_launched(disturbed, 12)
    assert not (disturbed / f"checkpoints/{STEPS}").exists()
    err = stop_one(disturbed, 16)
    assert "from step" in err
    stopped = int(re.search(r"stopped at step (\d+) of", err)[1])
    assert 16 <= stopped < STEPS and (disturbed / f"checkpoints/{stopped}").is_dir()
    assert f"from step {stopped}" in run_to_end(disturbed)[1]

    jax.tree.map(np.testing.assert_array_equal, saved_state(disturbed, STEPS), saved_state(straight, STEPS))
    assert (disturbed / "results.json").read_text() == (straight / "results.json").read_text()
    assert steps_logged(disturbed) == steps_logged(straight)


@pytest.mark.parametrize("arguments", [[], ["0", "true"], ["two", "true"], ["2"]])
def test_the_launcher_prints_its_usage(arguments):
    done = subprocess.run(
        [ROOT / "launch/local_processes.sh", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("usage: launch/local_processes.sh N COMMAND")


@pytest.mark.parametrize("script", sorted((ROOT / "launch").iterdir()), ids=lambda path: path.name)
def test_every_script_says_how_it_is_used_and_is_clean(script):
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert (
        done.returncode == 2 and done.stderr.startswith("usage: ") and f"launch/{script.name}" in done.stderr
    )
    assert "set -euo pipefail" in script.read_text()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)


@pytest.mark.parametrize(
    ("command", "code"), [("exit 0", 0), ('exit "$((JAX_PROCESS_ID * 3))"', 3), ("exit 130", 130)]
)
def test_the_launcher_gives_the_code_of_the_first_that_failed(command, code):
    done = subprocess.run(
        [ROOT / "launch/local_processes.sh", "2", "bash", "-c", command], capture_output=True, check=False
    )
    assert done.returncode == code


EXPLICIT = {"JAX_COORDINATOR_ADDRESS": "host:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "2"}


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "8"}, None),  # a batch script, outside srun
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_STEP_NUM_TASKS": "8"}, {}),
        ({"FPSSET_HOSTS": "auto"}, {}),
        (EXPLICIT, {"coordinator_address": "host:1", "num_processes": 4, "process_id": 2}),
    ],
)
def test_the_environment_says_which_processes_belong_together(environment, arguments):
    assert hosts.cluster_arguments(environment) == arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID is not set"),
        ({"JAX_PROCESS_ID": "x"}, "must be whole numbers"),
    ],
)
def test_an_incomplete_environment(change, message):
    with pytest.raises(InputError, match=message):
        hosts.cluster_arguments({**EXPLICIT, **change})


def test_a_count_of_tasks_that_is_no_number():
    with pytest.raises(InputError, match="SLURM_STEP_NUM_TASKS is 'abc'; it must be a whole number"):
        hosts.cluster_arguments({"SLURM_STEP_NUM_TASKS": "abc"})


def test_a_process_alone_agrees_with_itself():
    agreement, done = hosts.Agreement(data_mesh()), []
    assert [agreement(asks) for asks in (False, True)] == [False, True]
    assert [agreement.at_last(asks) for asks in (False, True)] == [False, True]
    hosts.on_first_process(lambda: done.append(1))
    assert done == [1] and hosts.is_first()
