"""python -m fpsset.main --config configs/NAME.py[:arg] [--workdir DIR] [--config.key=value ...]."""

import pathlib
import sys

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

import fpsset
from fpsset.errors import InputError
from fpsset.exits import exit_code
from fpsset.parallel import hosts

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run, e.g. configs/quickstart.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results, metrics and checkpoints go.")


def run(config, workdir: pathlib.Path) -> None:
    """Trains unless the mode is 'eval', then evaluates and prints the table.

    With several processes all compute the same, and the first alone writes and prints.

    Args:
      config: checked, with the fields of `fpsset.config.base_config`.
      workdir: as the README describes it.

    Raises:
      InputError: bad data.
      TrainingError: the loss stopped being finite.
      Interrupted: training was asked to stop.
    """
    from fpsset.data.missing import require_files
    from fpsset.data.sources import evaluation_data
    from fpsset.evaluation.protocols import evaluate, make_protocol, require_backbone
    from fpsset.evaluation.report import Provenance, write_report
    from fpsset.loading import load, load_training_faces
    from fpsset.training.loop import train
    from fpsset.training.workdir import flat_config

    keep_compiled(config.compilation_cache)
    require_files(config)
    data = evaluation_data(config.data, config.seed)
    if data.note and hosts.is_first():
        print(data.note, file=sys.stderr)
    protocol = make_protocol(data.table, data.pairs_file, data.search)
    if config.mode == "train":
        faces = load_training_faces(config)
        require_backbone(protocol, faces.dim, faces.backbone)
        train(config, workdir, faces)
    aggregator = load(config.weights or config.checkpoints or workdir)
    for field in ("coreset_size", "num_heads", "quality"):  # the report says what was evaluated
        config.model[field] = getattr(aggregator.model, field)
    found = evaluate(
        aggregator,
        protocol,
        config.evaluation.fps_gamma,
        config.evaluation.resamples,
        config.evaluation.faces_per_batch,
        config.evaluation.convention,
        config.evaluation.pooling,
        config.evaluation.seed,
        config.evaluation.packed,
    )
    title = f"{pathlib.Path(protocol.name).name}; fpsset is {aggregator.name}"
    if hosts.is_first():
        fields = {name: repr(value) for name, value in flat_config(config.to_dict()).items()}
        versions = {"fpsset": fpsset.__version__, "jax": jax.__version__, "numpy": np.__version__}
        print(write_report(workdir, found, Provenance(title, fields, versions)))


def keep_compiled(folder: str) -> None:
    """Keeps compiled programs in a folder, for later runs; an empty name keeps none."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(folder).expanduser().absolute()))
        # All of them: each shape of sets is a second or two, and there are some ten.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def run_extraction(config) -> None:
    """Writes the features of a folder of images and says what it wrote.

    Args:
      config: as `fpsset.config.extraction_config` lists it.

    Raises:
      InputError: bad configuration, images or weights.
    """
    from fpsset.config import check_extraction_config
    from fpsset.extraction.extract import extract

    check_extraction_config(config)
    table = extract(config)
    people, media = len(np.unique(table.subject)), len(np.unique(table.media))
    print(f"{config.out}: {len(table)} faces, {people} people, {media} media, {table.dim} wide")


def run_preparation(config) -> None:
    """Makes a dataset of files and says where it is.

    Args:
      config: as `fpsset.config.preparation_config` lists it.

    Raises:
      InputError: bad configuration or files.
    """
    from fpsset.config import check_preparation_config
    from fpsset.data.preparation import prepare

    check_preparation_config(config)
    if config.weights:
        config.features = str(embed_loose_crops(config))
    print(prepare(config))


def embed_loose_crops(config) -> pathlib.Path:
    """The features of a protocol's images, beside the datasets; made once for a backbone.

    Args:
      config: checked, of a preparation.

    Raises:
      InputError: bad images or weights.
    """
    from fpsset.config import extraction_config
    from fpsset.extraction.extract import extract

    weights = pathlib.Path(config.weights)
    if weights.suffix == ".onnx":
        raise InputError(
            f"{weights}: an ONNX file does not say how it wants its images; run configs/extract.py on "
            "loose_crop, and give --config.features=FILE"
        )
    features = pathlib.Path(config.out) / f"{config.dataset}_of_{weights.stem}.npz"
    if not features.exists():
        extraction = extraction_config()
        extraction.images = str(pathlib.Path(config.source) / "loose_crop")
        extraction.weights, extraction.out = config.weights, str(features)
        extract(extraction)
    return features


def main(argv: list[str]) -> int:
    """Runs a command line; returns the exit code."""

    def command() -> None:
        if not _parse(argv):
            return
        config = _CONFIG.value
        with hosts.joined():
            match config.mode:
                case "train" | "eval":
                    from fpsset.config import check_config

                    check_config(config)
                    run(config, pathlib.Path(_given("workdir")))
                case _ if jax.distributed.is_initialized():
                    raise InputError(f"config.mode {config.mode!r} runs in one process; start one")
                case "extract":
                    run_extraction(config)
                case "prepare":
                    run_preparation(config)
                case _:
                    raise InputError(
                        f"config.mode is {config.mode!r}; it must be 'train', 'eval' or its config file's"
                    )

    code = exit_code(command)
    hosts.leave(code)
    return code


def _parse(argv: list[str]) -> bool:
    """Reads the flags; False when only help was asked for."""
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(f"{__doc__}\n\nEvery field of a config is explained in fpsset/config.py.")
        return False
    try:
        rest = flags.FLAGS(argv)[1:]
        if _CONFIG.value is not None:
            _ = _CONFIG.value.mode  # a file that cannot be loaded says so only when it is used
    except (AttributeError, KeyError) as error:  # a key that the config does not have
        raise InputError(f"no such config key: {error.args[0]}") from error
    except (flags.Error, ImportError, NameError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{error}") from error
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; options look like --config.key=value")
    _given("config")
    return True


def _given(name: str):
    """The value of a flag; raises InputError where it is missing."""
    value = flags.FLAGS[name].value
    if not value:
        raise InputError(
            f"--{name} is missing; e.g. --config configs/quickstart.py --workdir runs/quickstart"
        )
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv))
