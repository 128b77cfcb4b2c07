"""What a run reads, where each thing comes from, and whether it is there."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from fpsset.data.ijb import FEATURES, LISTS, find_ijb
from fpsset.datasets.prepared import is_prepared
from fpsset.errors import InputError, MissingInputs

_BACKBONE = "the paper's is an IR-101 by AdaFace's authors"
_LISTS = "they come with IJB from NIST and with InsightFace's release, neither of which is freely available"


class Item(NamedTuple):
    """One thing that a run reads.

    Attributes:
      what: it is.
      path: where it was looked for.
      is_there: whether it was found.
      problem: what to say if it was not.
      source: where it comes from.
      command: that makes it; empty if none does.
    """

    what: str
    path: str
    is_there: bool
    problem: str
    source: str
    command: str

    def sentence(self) -> str:
        """What is missing and how to get it, as one line."""
        return f"{self.path}: {self.problem}; {self._fix()}"

    def line(self) -> str:
        """Its line in a checklist."""
        found = "found" if self.is_there else "missing"
        return f"  {found:<8} {self.what:<13} {self.path}" + ("" if self.is_there else f": {self._fix()}")

    def _fix(self) -> str:
        return "; ".join(filter(None, (self.source, self.command)))


def require_files(config, model: str = "") -> None:
    """Checks that everything a run will read exists, before it reads anything.

    Args:
      config: checked configuration of a training or an evaluation.
      model: folder or file of the model that an evaluation reads; empty if it reads none.

    Raises:
      InputError: one thing is missing.
      MissingInputs: several are; for a protocol in IJB's layout the last line is a command that makes
        simulated data and runs on them.
    """
    items = list(_items(config, model))
    missing = [item for item in items if not item.is_there]
    if len(missing) == 1:
        raise InputError(missing[0].sentence())
    if missing:
        counted = "nothing" if len(missing) == len(items) else f"only {len(items) - len(missing)}"
        lines = [f"of the {len(items)} things that this run reads, {counted} was found:"]
        lines += [item.line() for item in items]
        if any(item.what == "lists" for item in missing):
            lines += ["With none of them at hand, this runs the same on simulated data, in about a minute:"]
            lines += [f"  {_simulation(config)}"]
        raise MissingInputs("\n".join(lines))


def _items(config, model: str) -> Iterator[Item]:
    if config.mode == "eval" and model:
        yield _model(model, bool(config.weights))
    if config.data.source == "synthetic":
        return
    if config.mode == "train" and config.data.train:
        yield (_images if config.data.source == "images" else _training_features)(config.data.train)
        if config.backbone.weights:
            yield _backbone(config.backbone.weights)
    path = pathlib.Path(config.data.eval)
    if is_prepared(path) or not config.data.eval:
        return
    if path.suffix and not path.is_dir():
        yield _features(str(path), "evaluate", "eval")
    else:
        yield from _protocol(path, config.data.eval_features, config.backbone.weights or "WEIGHTS")


def _model(path: str, is_given: bool) -> Item:
    there = pathlib.Path(path).exists() or "://" in path
    source = (
        "give a workdir that contains checkpoints/, a folder from fpsset convert or fpsset fit, a published "
        "checkpoint, or the name of a pooling; FaceCoresetNet's authors publish theirs with their code"
    )
    if is_given:
        return Item("model", path, there, "no such weights to evaluate", source, "")
    source = "train one first, or give --config.weights=MODEL"
    return Item("model", path, there, "no such folder, so no model to evaluate", source, "")


def _images(path: str) -> Item:
    return Item(
        "training set",
        path,
        pathlib.Path(path).exists(),
        "no such images to train on",
        "WebFace4M, which its authors provide on request, or any folder per person, .rec pack or prepared "
        "dataset as config.data.train",
        "fpsset prepare webface4m_subset --source=WEBFACE4M makes the subset",
    )


def _backbone(path: str) -> Item:
    command = f"fpsset convert adaface_ir101_webface4m.ckpt {path}"
    there = pathlib.Path(path).exists()
    return Item("backbone", path, there, "no such weights", f"it embeds images; {_BACKBONE}", command)


def _training_features(path: str) -> Item:
    item = _features(path, "train", "train")
    clips = f"or from augmented clips of WebFace4M: fpsset extract webface4m:cache --out={path}"
    return item._replace(what="training set", command=f"{item.command}, {clips}")


def _features(path: str, use: str, field: str) -> Item:
    return Item(
        "evaluation" if use == "evaluate" else use,
        path,
        pathlib.Path(path).exists(),
        f"no such file to {use} on",
        f"give another as --config.data.{field}=FILE",
        f"extract features from images: fpsset extract --images=DIR --weights=WEIGHTS --out={path}",
    )


def _protocol(folder: pathlib.Path, features: str, weights: str) -> Iterator[Item]:
    found = find_ijb(folder, features)
    lacking = [pattern for pattern, file in zip(LISTS, (found.faces, found.pairs), strict=True) if not file]
    yield Item(
        "lists",
        str(folder / "meta"),
        not lacking,
        f"{folder} and its meta/ hold no {', no '.join(lacking)}",
        f"{', '.join(LISTS)} in the folder or its meta/; {_LISTS}",
        f"fpsset simulate-ijb {folder} --like {_like(folder)} writes synthetic ones",
    )
    crops = f"--images={folder / 'loose_crop'} --weights={weights} --out={folder / 'features.npz'}"
    yield Item(
        "features",
        features or str(folder),
        found.features is not None and found.features.exists(),
        "no such file"
        if features
        else f"holds no features ({', '.join(FEATURES)}), nor does the folder above",
        "one row for each listed face, from InsightFace's code, or --config.data.eval_features=FILE",
        f"fpsset extract {crops}",
    )


def _like(folder: pathlib.Path) -> str:
    return "ijbb" if "ijbb" in folder.name.lower() else "ijbc"


def _simulation(config) -> str:
    """A command line that makes simulated data and runs the same path on them to the end."""
    like = _like(pathlib.Path(config.data.eval))
    folder, train = f"simulated/{like.upper()}", "simulated/train.npz"
    make = f"fpsset simulate-ijb {folder} --like {like} --scale 0.02 --train {train}"
    at = f"--data.eval={folder} --workdir=runs/simulated"
    if config.mode == "eval":
        fit = f"fpsset fit {train} simulated/model"
        return f"{make} && {fit} && fpsset eval {like} --weights=simulated/model {at}"
    return f"{make} && fpsset train {like}:features --data.train={train} --model.name=posterior {at}"
