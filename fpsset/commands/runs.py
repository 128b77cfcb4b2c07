"""What a config runs: training, evaluation, extraction, preparation."""

import pathlib
import sys

import jax
import numpy as np

import fpsset
from fpsset.errors import InputError
from fpsset.runtime import hosts


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
    from fpsset.datasets.sources import evaluation_data, require_files
    from fpsset.evaluation.evaluator import evaluate
    from fpsset.evaluation.protocols import make_protocol, require_backbone
    from fpsset.inference.loading import load
    from fpsset.reports.report import Provenance, write_report
    from fpsset.training.faces import load_training_faces
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
        config.model[field] = getattr(aggregator.module, field)
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
    from fpsset.images.extract import extract

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
    from fpsset.datasets.preparation import prepare

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
    from fpsset.images.extract import extract

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
