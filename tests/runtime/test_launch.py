"""The scripts in launch/: what a dry run prints, and what a worker does to install."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TPU, SLURM = ROOT / "launch/tpu_vm.sh", ROOT / "launch/slurm.sh"
VM, ZONE = ["gcloud", "compute", "tpus", "tpu-vm"], ["--zone", "us-central1-a"]


def dry(*command, **environment) -> list[str]:
    """The lines that a dry run prints."""
    ours = ("ZONE", "PROJECT", "SPOT", "PYTHON", "SLURM_JOB_ID")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=True,
        env={**kept, "DRY": "1", **environment},
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (
            ["create", "my vm", "v5litepod-8"],
            {"SPOT": "1"},
            [
                *("create", "my vm", *ZONE, "--accelerator-type", "v5litepod-8"),
                *("--version", "tpu-ubuntu2204-base", "--spot"),
            ],
        ),
        (
            ["fetch", "vm", "runs/a b", "it's here"],
            {"ZONE": "europe-west4-a"},
            ["scp", "--recurse", "vm:fpsset/runs/a b", "it's here", "--zone", "europe-west4-a", "--worker=0"],
        ),
        (["delete", "vm"], {"PROJECT": "p"}, ["delete", "vm", *ZONE, "--project", "p"]),
    ],
)
def test_a_dry_run_prints_the_command(arguments, environment, words):
    (line,) = dry(TPU, *arguments, **environment)
    assert shlex.split(line) == [*VM, *words]
    assert ("'my vm'" in line) == ("my vm" in arguments)  # quoted only where needed


def test_a_dry_run_of_a_run_prints_it_once_with_every_argument():
    given = ["--config", "configs/x.py:a", "--workdir", "runs/a b", "--config.data.train=it's $HOME.npz"]
    (line,) = dry(TPU, "run", "vm", *given)
    *words, command = shlex.split(line)
    assert words == [*VM, "ssh", "vm", *ZONE, "--worker=all", "--command"]
    assert shlex.split(command) == [
        *["cd", "fpsset", "&&", "FPSSET_HOSTS=auto", ".venv/bin/python", "-m", "fpsset.main"],
        *given,
    ]


def test_a_dry_run_of_a_job():
    check, run, again = map(
        shlex.split, dry(SLURM, "--config=c.py", "--workdir", "runs/a b", PYTHON="/my envs/python")
    )
    assert check[:2] == ["/my envs/python", "-c"] and "(3, 11)" in check[2]
    started = ["srun", "--kill-on-bad-exit=1", "/my envs/python", "-m", "fpsset.main"]
    assert run == [*started, "--config=c.py", "--workdir", "runs/a b"]
    assert again == ["scontrol", "requeue", "JOB"]


def test_a_job_says_what_it_needs(tmp_path):
    """Nothing is started with a Python that is missing or lacks the package; what was stopped is requeued."""
    job = {"SLURM_JOB_ID": "1", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    stub(tmp_path / "srun", 'echo "$@"; exit "$CODE"')
    stub(tmp_path / "scontrol", 'echo "$@"')
    for python, code in ((sys.executable, 0), (sys.executable, 130), ("/none/python", 2), ("/bin/false", 2)):
        done = subprocess.run(
            [SLURM, "--config=c.py"],
            capture_output=True,
            text=True,
            env={**job, "PYTHON": python, "PYTHONPATH": str(ROOT), "CODE": str(code)},
        )
        assert done.returncode == code, done.stderr
        if code == 2:
            assert done.stderr.count("\n") == 1 and f"{python} is no Python of 3.11 or newer" in done.stderr
        else:
            started = f"--kill-on-bad-exit=1 {python} -m fpsset.main --config=c.py\n"
            assert done.stdout == started + "requeue 1\n" * (code == 130)


def stub(path: pathlib.Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


UV = """echo "uv $@" >> "$HOME/log"
[ "$1" = pip ] || { mkdir -p .venv/bin; cp "$HOME/doctor" .venv/bin/fpsset; }"""
INSTALLER = f'mkdir -p "$HOME/.local/bin"; cat > "$HOME/.local/bin/uv" <<\'E\'\n#!/bin/bash\n{UV}\nE\n'
INSTALLER += 'chmod +x "$HOME/.local/bin/uv"'
DONE = ["uv venv -q --python 3.12 .venv", "uv pip install -q --python .venv/bin/python -e .[tpu]"]


@pytest.mark.parametrize(
    ("uv", "log"),
    [
        ("there", DONE),
        ("downloaded", ["curl -LsSf https://astral.sh/uv/install.sh", *DONE]),
        ("by pip", ["curl -LsSf https://astral.sh/uv/install.sh", "pip install -q --user uv", *DONE]),
        ("nowhere", ["curl -LsSf https://astral.sh/uv/install.sh", "pip install -q --user uv"]),
    ],
)
def test_a_worker_brings_its_python(tmp_path, uv, log):
    """Runs what `install` sends to a worker, on stand-ins for uv, curl, Python and the TPU."""
    archive, copy, send = dry(TPU, "install", "my vm")
    assert shlex.split(archive)[:3] == ["git", "-C", str(ROOT)] and shlex.split(archive)[-1] == "HEAD"
    assert shlex.split(copy) == [*VM, "scp", "fpsset.tar.gz", "my vm:fpsset.tar.gz", *ZONE, "--worker=all"]
    *words, command = shlex.split(send)
    assert words == [*VM, "ssh", "my vm", *ZONE, "--worker=all", "--command"]

    home, tools = tmp_path / "home", tmp_path / "tools"
    stub(home / "doctor", 'echo "doctor $JAX_PLATFORMS $1" >> "$HOME/log"')
    stub(home / "install.sh", INSTALLER)
    fetched = 'cat "$HOME/install.sh"' if uv == "downloaded" else "exit 6"
    stub(tools / "curl", f'echo "curl $*" >> "$HOME/log"; {fetched}')
    by_pip = 'exec bash "$HOME/install.sh"' if uv == "by pip" else "exit 1"
    stub(tools / "python3", f'shift; echo "$*" >> "$HOME/log"; {by_pip}')
    for tool in ("bash", "sh", "mkdir", "tar", "gzip", "rm", "cp", "cat", "chmod"):
        (tools / tool).symlink_to(shutil.which(tool))
    if uv == "there":
        stub(tools / "uv", UV)
    (home / "fpsset/.venv/old").mkdir(parents=True)
    subprocess.run(["tar", "-czf", home / "fpsset.tar.gz", "-C", ROOT, "launch"], check=True)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=home,
        capture_output=True,
        text=True,
        env={"HOME": str(home), "PATH": str(tools)},
    )
    assert done.returncode == (uv == "nowhere"), done.stderr
    last = [] if uv == "nowhere" else ["doctor tpu doctor"]
    assert (home / "log").read_text().splitlines() == log + last
    assert (home / "fpsset/launch/tpu_vm.sh").is_file()
    assert (home / "fpsset/.venv/old").exists() == (uv == "nowhere")
