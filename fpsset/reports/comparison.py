"""Runs of one protocol side by side, and their differences on the same draws of the subjects."""

import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.files import read_npz
from fpsset.errors import InputError
from fpsset.evaluation.resampling import with_intervals
from fpsset.reports.tables import INTERVALS, Metrics, Section, tables

DRAWS = "draws.npz"
COMPARED = ("roc", "cmc")  # curves
_FORMAT = 2
_AGAIN = "evaluate it again"


class Run(NamedTuple):
    """What an evaluation left for comparisons."""

    name: str  # of its workdir
    about: dict[str, str]  # its title and fingerprints
    figures: dict[str, dict[str, np.ndarray]]  # {method: {figure: [1 + R], the figure, then its draws}}
    curves: dict[str, dict[str, np.ndarray]]  # {those of `COMPARED` there are: {method: [2, N], x and y}}


def write_draws(path: pathlib.Path, run: Run) -> None:
    """Writes a run to an `.npz`, all but its name."""
    about = {name: np.array(value) for name, value in run.about.items()}
    groups = {"about": about | {"format": np.array(str(_FORMAT))}}
    groups |= {f"figures/{method}": named for method, named in run.figures.items()}
    groups |= {f"curves/{kind}": named for kind, named in run.curves.items()}
    columns = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **columns)


def read_run(workdir: pathlib.Path, method: str) -> Run:
    """What an evaluation left in its workdir.

    Args:
      workdir: of the run.
      method: that is to be compared.

    Raises:
      InputError: there is nothing, or it is damaged, or holds no draws of the method.
    """
    path = workdir / "report" / DRAWS
    if not workdir.is_dir():
        raise InputError(f"{workdir}: no such folder; give the workdir of an evaluation")
    if not path.is_file():
        raise InputError(f"{path}: no such file; {workdir} was not evaluated, or long ago: {_AGAIN}")
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
    return Run(str(workdir), about, figures, curves)


def require_comparable(runs: list[Run]) -> None:
    """Raises InputError unless all runs are of one protocol, and of the same draws of its subjects."""
    first = runs[0]
    for other in runs[1:]:
        for what, mend in (
            ("protocol", "compare runs of the same templates, pairs, galleries and convention"),
            ("draws", "evaluate both with the same config.evaluation.resamples and seed"),
        ):
            if first.about[what] != other.about[what]:
                raise InputError(
                    f"{other.name}: is of another {what} than {first.name} ({other.about[what]}, not "
                    f"{first.about[what]}); {mend}"
                )


def compare(runs: list[Run], method: str) -> Section:
    """Figures of one method of each run, and the differences from the first run's.

    Args:
      runs: two or more that `require_comparable` passes.
      method: its name.
    """
    chosen = [run.figures[method] for run in runs]
    names = [name for name in chosen[0] if all(name in figures for figures in chosen)]
    called = labels(runs)
    each, differences = {}, {}
    for label, figures in zip(called, chosen, strict=True):
        each[label] = _metrics(figures, names)
        if figures is not chosen[0]:
            difference = {name: figures[name] - chosen[0][name] for name in names}
            differences[f"{label} - {called[0]}"] = _metrics(difference, names)
    note = (
        f"the method {method} of each run, on the same draws of the subjects: where the interval of a "
        "difference holds no zero, the runs differ" + INTERVALS
    )
    made = [*tables("Runs", names, each), *tables("Differences", names, differences)]
    title = " against ".join([*called[1:], called[0]]) if len(runs) == 2 else f"{len(runs)} runs"
    return Section("comparison", title, made, note, each | differences)


def _metrics(figures: dict[str, np.ndarray], names: list[str]) -> Metrics:
    values = {name: float(figures[name][0]) for name in names}
    return with_intervals(values, {name: figures[name][1:] for name in names})


def labels(runs: list[Run]) -> list[str]:
    """What to call each run: the last part of its path, where these tell them apart; else the path."""
    names = [run.name for run in runs]
    short = [pathlib.Path(name).resolve().name for name in names]
    return short if len(set(short)) == len(short) else names
