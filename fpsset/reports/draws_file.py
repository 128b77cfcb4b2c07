"""report/draws.npz: what an evaluation leaves for comparisons with other runs."""

import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.npz import read_npz
from fpsset.errors import InputError
from fpsset.evaluation.metric_names import comparable_figures
from fpsset.evaluation.resampling import Estimate, estimate
from fpsset.evaluation.results import Evaluation

DRAWS = "draws.npz"
_CURVES = ("roc", "cmc", "dir")
_FORMAT = 2
_AGAIN = "evaluate it again"


class Run(NamedTuple):
    """What comparisons need of an evaluation."""

    name: str  # of its workdir
    about: dict[str, str]  # its title and fingerprints
    figures: dict[str, dict[str, Estimate]]  # method -> name -> figure, with draws
    curves: dict[str, dict[str, np.ndarray]]  # 'roc', maybe 'cmc', 'dir' -> method -> [2, N], x and y


def as_run(name: str, title: str, found: Evaluation) -> Run:
    """Takes from an evaluation what comparisons need."""
    figures = {}
    for method, verified in found.verification.items():
        named = comparable_figures(verified, found.identification.get(method))
        drawn = {key: f for key, f in named.items() if f.value is not None and len(f.draws)}
        figures |= {method: drawn} if drawn else {}
    curves = {
        kind: {method: np.stack(points) for method, points in found.curves[kind].items()}
        for kind in _CURVES
        if kind in found.curves
    }
    return Run(name, {"title": title, **found.fingerprints}, figures, curves)


def write_draws(path: pathlib.Path, run: Run) -> None:
    """Writes a run, except its name, as an `.npz`; a figure is [1 + R], its value and then its draws."""
    about = {name: np.array(value) for name, value in run.about.items()}
    groups = {"about": about | {"format": np.array(str(_FORMAT))}}
    for method, named in run.figures.items():
        groups[f"figures/{method}"] = {name: np.append(f.value, f.draws) for name, f in named.items()}
    groups |= {f"curves/{kind}": named for kind, named in run.curves.items()}
    columns = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **columns)


def read_run(workdir: pathlib.Path, method: str) -> Run:
    """Reads what an evaluation left in its workdir.

    Args:
      workdir: of the run.
      method: to compare.

    Raises:
      InputError: there is no such file, it is damaged, or it holds no draws of the method.
    """
    path = workdir / "report" / DRAWS
    if not workdir.is_dir():
        raise InputError(f"{workdir}: no such folder; give the workdir of an evaluation")
    if not path.is_file():
        raise InputError(f"{path}: no such file; {workdir} was not evaluated by this version: {_AGAIN}")
    groups: dict[str, dict[str, np.ndarray]] = {}
    for column, values in read_npz(path).items():
        group, _, name = column.rpartition("/")
        groups.setdefault(group, {})[name] = values
    about = {name: str(value) for name, value in groups.get("about", {}).items()}
    figures, curves = (
        {group.partition("/")[2]: named for group, named in groups.items() if group.startswith(f"{kind}/")}
        for kind in ("figures", "curves")
    )
    if about.get("format") != str(_FORMAT) or not {"protocol", "draws", "title"} <= about.keys():
        raise InputError(f"{path}: holds no draws of this version of fpsset; {_AGAIN}")
    if not figures:
        raise InputError(
            f"{workdir}: was evaluated without draws of the subjects; {_AGAIN} with "
            "--config.evaluation.resamples=200, and at least 10 known subjects"
        )
    if method not in figures:
        raise InputError(f"{workdir}: holds no method {method!r}; it holds {', '.join(figures)}")
    sound = len({values.shape for values in figures[method].values()}) == 1
    if not sound or not all(method in named and len(named[method]) == 2 for named in curves.values()):
        raise InputError(f"{path}: is damaged; {_AGAIN}")
    estimates = {name: estimate(values[0], values[1:]) for name, values in figures[method].items()}
    return Run(str(workdir), about, {method: estimates}, curves)
