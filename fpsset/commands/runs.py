"""The runs that a config describes: training, evaluation, extraction and preparation."""

import json
import pathlib
from contextlib import ExitStack

import jax
import numpy as np

import fpsset
from fpsset.commands.config_flags import Asked
from fpsset.commands.inputs import FITTED, PLAIN, load_model
from fpsset.errors import InputError
from fpsset.runtime import hosts
from fpsset.runtime.device_errors import within_memory
from fpsset.runtime.escapes import show
from fpsset.runtime.files import as_path
from fpsset.runtime.locks import sole_use
from fpsset.runtime.programs import keep_programs
from fpsset.runtime.progress import StepProgress


def run_asked(asked: Asked) -> None:
    """Runs what a command line asks for, with the other processes that the environment names.

    Raises:
      InputError, TrainingError, Interrupted: see `run_config`.
    """
    with hosts.joined():
        run_config(*asked)


def run_config(config, workdir: str = "", verbose: bool = False, as_json: bool = False) -> None:
    """Runs what `config.mode` names.

    Args:
      config: of `fpsset.config`, not checked yet.
      workdir: folder for results; needed to train and to evaluate.
      verbose: print every table of an evaluation.
      as_json: print one JSON object in place of text.

    Raises:
      InputError: bad configuration or data, or no workdir.
      TrainingError: the loss or its gradient stopped being finite.
      Interrupted: training was stopped by a signal.
    """
    match config.mode:
        case "train" | "eval":
            train_and_evaluate(config, workdir, verbose, as_json)
        case "extract":
            run_extraction(config, as_json)
        case _ if jax.distributed.is_initialized():
            raise InputError(f"config.mode {config.mode!r} runs in a single process; start only one")
        case "prepare":
            run_preparation(config, as_json)
        case _:
            raise InputError(
                f"config.mode is {config.mode!r}; it must be 'train', 'eval' or that of its config file"
            )


def train_and_evaluate(config, workdir: str, verbose: bool = False, as_json: bool = False) -> None:
    """Trains unless `config.mode` is 'eval', then evaluates, writes the report and prints the outcome.

    With several processes all compute the same; only the first writes the report and prints. It locks the
    workdir and the folder of the checkpoints, against another run in either; a bucket has no locks.

    Args:
      config: see `fpsset.config.base_config`.
      workdir: folder for results, metrics and checkpoints.
      verbose, as_json: see `run_config`.

    Raises:
      InputError: bad configuration or data, or no workdir.
      TrainingError: the loss or its gradient stopped being finite.
      Interrupted: training was stopped by a signal.
    """
    from fpsset.config import check_config
    from fpsset.datasets.checklist import require_files
    from fpsset.datasets.sources import evaluation_data
    from fpsset.evaluation.calibration import warning_of
    from fpsset.evaluation.evaluator import evaluate
    from fpsset.evaluation.protocols import make_protocol, require_backbone
    from fpsset.inference.loading import load
    from fpsset.reports.outcome import outcome, print_outcome
    from fpsset.reports.report import Provenance, write_report
    from fpsset.training.faces import in_steps, load_training_faces
    from fpsset.training.fitting import WHITENED, fit_model, fit_rival, saved_rival
    from fpsset.training.loop import train
    from fpsset.training.workdir import flat_config

    check_config(config)
    if not workdir:
        raise InputError("--workdir is empty; leave it out, or give a folder")
    named = config.weights in (*PLAIN, *FITTED)
    require_files(config, "" if named else config.weights or config.checkpoints or workdir)
    if hosts.is_first():
        StepProgress.say(f"results go to {workdir}")
    workdir = pathlib.Path(workdir)
    data = evaluation_data(config.data, config.seed)
    if data.note and hosts.is_first():
        show(data.note, err=True)
    protocol = make_protocol(data.table, data.pairs_file, data.search)
    keep_programs(config.compilation_cache)
    with ExitStack() as stack:

        def lock(*folders) -> None:
            for folder in dict.fromkeys(folders):
                stack.enter_context(sole_use(folder, "--workdir", folder=True))

        if config.mode == "train":
            with within_memory("config.backbone.batch_size"):
                faces = load_training_faces(config)
            config = in_steps(config, faces)  # for the report too
            require_backbone(protocol, faces.dim, faces.backbone)
            hosts.on_first_process(lambda: lock(workdir, as_path(config.checkpoints or workdir)))
            with within_memory(_fields_of_a_step(config)):
                (fit_model if config.model.name == "posterior" else train)(config, workdir, faces)
                fit_rival(config, workdir, faces)
        if named:
            aggregator = load_model(config.weights, config.data.train if config.weights in FITTED else None)
        else:
            aggregator = load(config.weights or config.checkpoints or workdir)
        if config.mode == "eval":
            require_backbone(protocol, aggregator.dim, aggregator.backbone)
            hosts.on_first_process(lambda: lock(workdir))
        rival = saved_rival(pathlib.Path(config.weights) if config.weights else workdir)
        config.model.name = aggregator.card.model  # report the model that was evaluated
        for field in ("coreset_size", "num_heads", "quality", "by_media"):
            config.model[field] = getattr(aggregator.card, field)
        if warning := warning_of(aggregator, data.table):
            StepProgress.say(f"warning: {warning}; evaluate people that the model has not seen")
        with within_memory("config.evaluation.faces_per_batch"):
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
                {WHITENED: rival} if rival is not None and rival.dim == protocol.dim else {},
            )
        title = f"{pathlib.Path(protocol.name).name}; fpsset is {aggregator.name}"
        if hosts.is_first():
            fields = {name: repr(value) for name, value in flat_config(config.to_dict()).items()}
            versions = {"fpsset": fpsset.__version__, "jax": jax.__version__, "numpy": np.__version__}
            made = write_report(workdir, found, Provenance(title, fields, versions))
            if as_json:
                show(json.dumps(outcome(found, workdir)))
            else:
                print_outcome(found, made, workdir, verbose)


def _fields_of_a_step(config) -> str:
    """What takes memory in training, besides the validation."""
    images = config.data.source == "images"
    return "config.batch_size" + (" or config.backbone.batch_size" if images else "")


def run_extraction(config, as_json: bool = False) -> None:
    """Writes the features of a folder of images and prints a summary; of several processes, the first.

    Args:
      config: see `fpsset.config.extraction_config`.
      as_json: see `run_config`.

    Raises:
      InputError: bad configuration, images or weights.
    """
    from fpsset.config import check_extraction_config
    from fpsset.images.extract import extract

    check_extraction_config(config)
    keep_programs()
    with within_memory("config.batch_size"):
        table = extract(config)
    if table is None:
        return
    people, media = len(np.unique(table.subject)), len(np.unique(table.media))
    if as_json:
        counts = {"faces": len(table), "people": people, "media": media, "dim": table.dim}
        show(json.dumps({"out": config.out} | counts))
    else:
        show(f"{config.out}: {len(table)} faces, {people} people, {media} media, {table.dim} wide")


def run_preparation(config, as_json: bool = False) -> None:
    """Prepares a dataset from files and prints where it is.

    Args:
      config: see `fpsset.config.preparation_config`.
      as_json: see `run_config`.

    Raises:
      InputError: bad configuration or files.
    """
    from fpsset.config import check_preparation_config
    from fpsset.datasets.preparation import prepare

    check_preparation_config(config)
    if config.weights:
        config.features = str(embed_loose_crops(config))
    done = prepare(config)
    show(json.dumps({"dataset": str(done.folder), "records": done.records}) if as_json else done)


def embed_loose_crops(config) -> pathlib.Path:
    """Embeds the images of a protocol, unless that was done before with the same backbone.

    Args:
      config: checked preparation config with `weights`.

    Returns:
      The feature file, which lies beside the datasets.

    Raises:
      InputError: bad images or weights.
    """
    from fpsset.config import extraction_config
    from fpsset.images.extract import extract

    weights = pathlib.Path(config.weights)
    if weights.suffix == ".onnx":
        raise InputError(
            f"{weights}: an ONNX file does not specify its input; run configs/extract.py on loose_crop, "
            "then give --config.features=FILE"
        )
    features = pathlib.Path(config.out) / f"{config.dataset}_of_{weights.stem}.npz"
    if not features.exists():
        extraction = extraction_config()
        extraction.images = str(pathlib.Path(config.source) / "loose_crop")
        extraction.weights, extraction.out = config.weights, str(features)
        keep_programs()
        extract(extraction)
    return features
