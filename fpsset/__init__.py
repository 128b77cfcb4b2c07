"""fpsset: one descriptor for a set of faces of one person (FaceCoresetNet in JAX and Flax).

The rooms of the package, each importing only from those below it:

    fpsset/main.py      runs a config
    fpsset/face_set.py  padded and ragged sets    fpsset/errors.py    errors that users can fix

    fpsset/commands/    the `fpsset` command, one file per subcommand, and what a config runs
    fpsset/config/      every field of a config, and its checks; the published recipe
    fpsset/training/    models fitted in closed form; the loop, the step, the optimizer, checkpoints
    fpsset/reports/     tables, plots, pages, comparisons of runs, coreset sheets
    fpsset/people/      a store of people: enrolled, searched, edited, decided on, exported
    fpsset/evaluation/  protocols, verification, identification, resampling, calibration
    fpsset/streaming/   descriptors of streams of faces, in fixed memory
    fpsset/inference/   load, aggregate, explain, export; sets larger than memory
    fpsset/datasets/    what a run trains on and is evaluated on; TFDS builders
    fpsset/images/      listing, decoding, alignment, augmentation, recognisers, extraction
    fpsset/data/        feature files, IJB's lists, protocols, synthetic faces, the Grain pipeline
    fpsset/weights/     readers of published checkpoints; cards; which checkpoint of a run is used
    fpsset/runtime/     exit codes, stops, locks, progress, safe files, multi-process training
    fpsset/parallel/    the device mesh, the sharded softmax, sets split over devices
    fpsset/models/      linen modules: the default model, FaceCoresetNet, margin heads, poolings, IResNet, ViT
    fpsset/ops/         pure functions of arrays: metric, sampling, norm encoding, attention
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fpsset.errors import InputError
    from fpsset.face_set import FaceSet, pad_sets
    from fpsset.images.embedding import embed
    from fpsset.inference.aggregator import Aggregator, PlainAggregator
    from fpsset.inference.explanation import Explanation
    from fpsset.inference.loading import load
    from fpsset.models.face_coreset_net import FaceCoresetNet
    from fpsset.models.margin_heads import AdaFaceHead, ArcFaceHead, CosFaceHead
    from fpsset.ops.sampling import farthest_point_sampling, soft_farthest_point_sampling
    from fpsset.streaming.aggregator import StreamingAggregator
    from fpsset.training.closed_form import fit
    from fpsset.weights.official import load_official

__version__ = "0.2.0"

__all__ = [
    "AdaFaceHead",
    "Aggregator",
    "ArcFaceHead",
    "CosFaceHead",
    "Explanation",
    "FaceCoresetNet",
    "FaceSet",
    "InputError",
    "PlainAggregator",
    "StreamingAggregator",
    "embed",
    "farthest_point_sampling",
    "fit",
    "load",
    "load_official",
    "pad_sets",
    "soft_farthest_point_sampling",
]

# Imported when first used, so that a program can catch signals before it spends seconds in imports.
_HOMES = {
    "AdaFaceHead": "models.margin_heads",
    "Aggregator": "inference.aggregator",
    "ArcFaceHead": "models.margin_heads",
    "CosFaceHead": "models.margin_heads",
    "Explanation": "inference.explanation",
    "FaceCoresetNet": "models.face_coreset_net",
    "FaceSet": "face_set",
    "InputError": "errors",
    "PlainAggregator": "inference.aggregator",
    "StreamingAggregator": "streaming.aggregator",
    "embed": "images.embedding",
    "farthest_point_sampling": "ops.sampling",
    "fit": "training.closed_form",
    "load": "inference.loading",
    "load_official": "weights.official",
    "pad_sets": "face_set",
    "soft_farthest_point_sampling": "ops.sampling",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'fpsset' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fpsset.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
