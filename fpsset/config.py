"""Configuration fields of every kind of run, with defaults (explained in docs/train.md) and checks."""

import math
import pathlib
from collections.abc import Iterator

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fpsset.errors import InputError
from fpsset.evaluation.pooling_protocols import switches_of
from fpsset.images.listing import MEDIA_PATTERN
from fpsset.images.presets import PRESETS
from fpsset.models.margin_heads import HEADS
from fpsset.models.selector import MAX_CORESET_SIZE
from fpsset.ops.metric import DEFAULT_GAMMA

MODELS = ("posterior", "face_coreset_net")
DATASETS = ("face_features", "webface4m_subset", "ijbb", "ijbc")
_MODE = "that of its config file: do not override config.mode"


def base_config() -> ConfigDict:
    """The default recipe, with every field of a training or evaluation run; `configs/` override some."""
    config = ConfigDict()
    config.mode = "train"  # 'train' (evaluates at the end) or 'eval'
    # For 'eval': a workdir or checkpoint, a plain pooling ('plain', 'mean', 'norm_weighted', 'media_mean',
    # 'fps'), or 'posterior' or 'whitened', fitted to data.train; empty: this workdir's best checkpoint.
    config.weights = ""
    config.seed = 0
    config.steps = 1000
    config.batch_size = 64  # templates per step, over all devices
    config.log_every = 50  # steps
    config.eval_every = 500  # steps between validations; each saves a checkpoint
    # Folder or bucket (gs://...) for checkpoints/ and config.json, reachable from every host; empty: the
    # workdir. Evaluation uses the best checkpoint there, and fpsset.load accepts the folder.
    config.checkpoints = ""
    config.profile = ""  # 'START:STOP': writes a trace of these steps to the workdir (TensorBoard, Perfetto)
    config.tensorboard = False  # write event files and the embedding projector to the workdir's tensorboard/
    # Folder in which compiled programs are kept for later runs; 'off': none; empty: on GPUs and TPUs,
    # fpsset/compiled in the user's cache, or JAX_COMPILATION_CACHE_DIR.
    config.compilation_cache = ""

    config.model = ConfigDict()
    # 'posterior', fitted in closed form in seconds, or 'face_coreset_net', which the steps below train. All
    # fields but coreset_size and gamma are of the latter.
    config.model.name = "posterior"
    config.model.coreset_size = 3
    config.model.num_heads = 1
    config.model.dropout_rate = 0.1
    config.model.gamma = 2.0  # initial; above DEFAULT_GAMMA, so that a face is not picked for being poor
    config.model.quality = True  # weight faces and picks by a learned quality
    config.model.by_media = True  # in the attention, a medium's faces together weigh as one face
    config.model.init = "closed_form"  # a pooling computed from the training faces; or 'random'
    config.model.dtype = "float32"  # of matrix products in training, or 'bfloat16'; the state stays float32
    # (start, end) of geometric schedules over the run: the factor of the scores before the Gumbel noise is
    # added, and the temperature of the softmax.
    config.model.score_scale = (1.0, 1.0)
    config.model.temperature = (1.0, 1.0)

    config.head = ConfigDict()
    config.head.name = "adaface"  # 'adaface', 'arcface' or 'cosface'
    config.head.margin = 0.4
    config.head.scale = 48.0
    config.head.h = 0.333  # AdaFace's concentration; ignored by the other heads
    config.head.init = "centers"  # descriptors of each person's faces; or 'random'
    config.head.trained = False  # update the class vectors

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-5
    config.optimizer.weight_decay = 0.0
    config.optimizer.gamma_learning_rate = 1e-4
    config.optimizer.milestones = ()  # steps at which both learning rates are multiplied by `decay`
    config.optimizer.decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.optimizer.accumulate = 1  # steps whose gradients are averaged into one update

    config.data = ConfigDict()
    config.data.source = "features"  # what data.train holds: 'features', 'images' or 'synthetic' (no file)
    config.data.train = ""  # feature file or prepared dataset; for 'images' a folder, .rec pack or dataset
    config.data.eval = ""  # feature file, prepared dataset, or folder in the layout of IJB-B and IJB-C
    config.data.eval_features = ""  # features of an IJB folder in data.eval; empty: searched for beside it
    config.data.protocol = ""  # for data.eval; CSV or Parquet: path or row, template, subject, media, role
    config.data.pairs = ""  # text file of lines 'template template same'; empty: all pairs of templates
    config.data.max_size = 20  # faces per training template
    config.data.max_clip = 3  # consecutive frames drawn from one seed
    config.data.holdout = 0.1  # share of the training people held out for validation
    config.data.norm_mean = 20.0  # norms are scaled to this mean over the training faces; 0: not scaled
    config.data.threads = 4  # decoding images
    config.data.people = 1000  # synthetic people to train on
    config.data.eval_people = 200  # synthetic people to evaluate on
    config.data.dim = 512  # width of synthetic embeddings

    config.backbone = ConfigDict()  # frozen; embeds data.train where data.source is 'images'
    config.backbone.weights = ""  # converted weights or a published checkpoint
    config.backbone.color_order = ""  # 'bgr' or 'rgb', for published weights that do not specify it
    config.backbone.dtype = "float32"  # of convolutions, or 'bfloat16'
    config.backbone.batch_size = 64  # faces embedded at a time
    config.backbone.check_color_order = True  # by embedding a sample of the images in both orders

    config.evaluation = ConfigDict()
    config.evaluation.metric = "tar@far=1e-3"  # on held-out people; selects the best checkpoint
    # How TAR at a FAR is read: 'conservative' (achieved FAR <= target) or 'nearest' (as InsightFace's code
    # does, for comparison with published figures; the achieved FAR may exceed the target).
    config.evaluation.convention = "conservative"
    # An additional baseline that pools as a published protocol does: a name in
    # `fpsset.evaluation.pooling_protocols.PROTOCOLS`, or its switches joined by '+', e.g. 'norm+media'.
    config.evaluation.pooling = ""
    config.evaluation.faces_per_batch = 16384
    # Let small sets share rows of slots: fewer compilations and less padding; faster on accelerators.
    config.evaluation.packed = False
    config.evaluation.fps_gamma = DEFAULT_GAMMA  # of the baseline 'fps'
    config.evaluation.resamples = 200  # subject resamples for 95% intervals; 0: no intervals
    config.evaluation.seed = 0  # of the resampling
    return config


def published_config() -> ConfigDict:
    """The recipe of the paper, its supplement and its official script, independent of the defaults above."""
    config = base_config()
    config.steps = 4000
    config.batch_size = 40  # the paper's 20 on each of two GPUs
    config.model.name = "face_coreset_net"
    config.model.num_heads = 8
    config.model.gamma = 0.01  # the paper's start
    config.model.quality = False
    config.model.by_media = False
    config.model.init = "random"
    config.head.margin = 0.8
    config.head.init = "random"
    config.head.trained = True
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 1e-3
    config.optimizer.milestones = (3000,)
    return config


def ijb_config(folder: str, mode: str = "images") -> ConfigDict:
    """The published recipe, evaluated on IJB-B or IJB-C.

    Args:
      folder: of the protocol, 'IJBB' or 'IJBC'; override it with `config.data.eval`.
      mode: what to train on, 'images' or 'features'; or 'eval', to evaluate only.
    """
    config = published_config()
    config.mode = "train" if mode in ("images", "features") else mode
    if mode == "features":
        config.data.train = "webface4m.npz"
    else:
        config.data.source = "images"
        config.data.train = "datasets/webface4m_subset/10000_seed0/1.0.0"
        config.backbone.weights = "weights/adaface"
    config.data.norm_mean = 0.0  # unscaled norms, as in configs/webface4m.py
    config.data.eval = folder
    return config


def extraction_config() -> ConfigDict:
    """Every field of an extraction, which turns images into features; see `configs/extract.py`."""
    config = ConfigDict()
    config.mode = "extract"
    config.images = ""  # a folder with one folder per person, or an IJB loose_crop folder
    config.weights = ""  # converted weights, a published checkpoint, or an .onnx file
    config.out = ""  # feature file to write, .npz or .parquet
    # Text file of lines 'name x1 y1 ... x5 y5 [score]'; empty: IJB's own where found, else aligned crops.
    config.landmarks = ""
    config.detector = ""  # a YuNet .onnx: finds the faces in photos and videos, as fpsset faces does
    config.media_pattern = MEDIA_PATTERN  # files whose names match with the same group 1 are one video
    config.folder_is_video = False  # a folder inside a person's folder is one video
    # Input of an .onnx file: (x - mean) / std in this colour order. Other weights specify it themselves.
    config.color_order = ""  # 'bgr' or 'rgb'
    config.mean = placeholder(float)
    config.std = placeholder(float)
    config.preset = ""  # a family of recognisers, in fpsset/images/presets.py, instead of the three
    config.check_color_order = True  # by embedding a sample of the images in both orders
    config.dtype = "float32"  # of an IResNet's convolutions, or 'bfloat16'
    config.batch_size = 64  # images of a step, which the devices of a process share
    config.batches_per_part = 64  # an interruption loses at most this many
    config.threads = 4  # decoding images
    config.flip = False  # also embed mirrored images, for protocols that pool both
    config.augmented = 0  # augmented clips made from each image, to train on; 0: the image as it is
    config.clip_frames = 3  # frames per augmented clip
    config.seed = 0  # of the augmentation
    return config


def preparation_config() -> ConfigDict:
    """Every field of a preparation, which turns files into a TFDS dataset; see `configs/prepare.py`."""
    config = ConfigDict()
    config.mode = "prepare"
    config.dataset = ""  # one of DATASETS
    config.source = ""  # a feature file, an IJB folder, a folder with one folder per person, or a .rec pack
    config.out = "datasets"  # TFDS's data_dir
    config.features = ""  # of ijbb and ijbc; empty: searched for in the source and beside it
    config.weights = ""  # a backbone that computes the features of ijbb or ijbc from loose_crop instead
    config.records = "person"  # one record of face_features per 'person' or per 'template'
    config.people = 10_000  # drawn from the source, for webface4m_subset
    config.seed = 0  # of that draw
    return config


def check_preparation_config(config: ConfigDict) -> None:
    """Raises InputError naming the first invalid field and the values it may take."""
    need = _Need(config)
    need(config.mode == "prepare" and "dataset" in config, "mode", _MODE)
    need(config.dataset in DATASETS, "dataset", f"one of {', '.join(DATASETS)}: configs/prepare.py:NAME")
    for field, example in (("source", "DIR"), ("out", "DIR")):
        if not config[field]:
            raise InputError(f"config.{field} is empty; give --config.{field}={example}")
    need(
        not config.weights or config.dataset in ("ijbb", "ijbc"), "weights", "empty except for ijbb and ijbc"
    )
    need(not (config.weights and config.features), "weights", "empty when config.features is given")
    need(config.records in ("person", "template"), "records", "'person' or 'template'")
    need(config.people >= 1, "people", "at least 1")
    need(config.seed >= 0, "seed", "at least 0")


def check_extraction_config(config: ConfigDict) -> None:
    """Raises InputError naming the first invalid field and the values it may take."""
    need = _Need(config)
    need(config.mode == "extract" and "images" in config, "mode", _MODE)
    for field, value in _numbers(config):
        need(math.isfinite(value), field, "finite")
    for field, example in (("images", "DIR"), ("weights", "FILE"), ("out", "FILE.npz")):
        if not config[field]:
            raise InputError(f"config.{field} is empty; give --config.{field}={example}")
    named = pathlib.PurePath(config.out).suffix in (".npz", ".parquet")
    need(named, "out", "a file name that ends in .npz or .parquet")
    need(
        not (config.flip and config.augmented),
        "flip",
        "False with config.augmented, whose clips mirror frames already",
    )
    need(config.color_order in ("", "bgr", "rgb"), "color_order", "'bgr' or 'rgb'")
    for field in ("landmarks", "media_pattern", "folder_is_video", "flip", "augmented"):
        given = config[field] not in ("", False, 0, MEDIA_PATTERN)
        need(not (config.detector and given), "detector", f"empty with {field}, which is for aligned crops")
    need(config.preset in ("", *PRESETS), "preset", f"one of {', '.join(PRESETS)}")
    need(config.std is None or config.std > 0, "std", "positive")
    need(config.dtype in ("float32", "bfloat16"), "dtype", "'float32' or 'bfloat16'")
    for field in ("batch_size", "batches_per_part", "threads", "clip_frames"):
        need(config[field] >= 1, field, "at least 1")
    for field in ("augmented", "seed"):
        need(config[field] >= 0, field, "at least 0")


def check_config(config: ConfigDict) -> None:
    """Raises InputError naming the first invalid field and the values it may take."""
    need = _Need(config)
    need(config.mode in ("train", "eval") and "model" in config, "mode", _MODE)
    for field, value in _numbers(config):
        need(math.isfinite(value), field, "finite")
    need(config.mode == "eval" or not config.weights, "weights", "empty unless the mode is 'eval'")
    need(config.seed >= 0, "seed", "at least 0")
    for field in ("steps", "batch_size", "log_every", "eval_every"):
        need(config[field] >= 1, field, "at least 1")
    need(config.model.name in MODELS, "model.name", f"one of {', '.join(MODELS)}")
    need(
        1 <= config.model.coreset_size <= MAX_CORESET_SIZE,
        "model.coreset_size",
        f"at least 1 and at most {MAX_CORESET_SIZE}",
    )
    need(config.model.num_heads >= 1, "model.num_heads", "at least 1")
    need(0 <= config.model.dropout_rate < 1, "model.dropout_rate", "in [0, 1)")
    need(config.model.init in ("random", "closed_form"), "model.init", "'random' or 'closed_form'")
    need(
        config.model.quality or config.model.init == "random",
        "model.quality",
        "True where model.init is 'closed_form'",
    )
    need(config.head.init in ("random", "centers"), "head.init", "'random' or 'centers'")
    for field in ("score_scale", "temperature"):
        schedule = tuple(config.model[field])
        fine = len(schedule) == 2 and all(isinstance(x, int | float) and x > 0 for x in schedule)
        need(fine, f"model.{field}", "two positive numbers: start, end")
    need(config.model.dtype in ("float32", "bfloat16"), "model.dtype", "'float32' or 'bfloat16'")
    need(config.head.name in HEADS, "head.name", f"one of {', '.join(HEADS)}")
    need(config.head.scale > 0, "head.scale", "positive")
    for field in ("learning_rate", "gamma_learning_rate", "clip_norm", "decay"):
        need(config.optimizer[field] > 0, f"optimizer.{field}", "positive")
    need(config.optimizer.weight_decay >= 0, "optimizer.weight_decay", "at least 0")
    milestones = list(config.optimizer.milestones)
    fine = all(isinstance(x, int) and x >= 1 for x in milestones) and milestones == sorted(set(milestones))
    need(fine, "optimizer.milestones", "increasing steps, each at least 1")
    need(config.optimizer.accumulate >= 1, "optimizer.accumulate", "at least 1")
    need(not config.profile or _is_range(config.profile), "profile", "empty or 'START:STOP', from step 1 on")
    sources = ("features", "images", "synthetic")
    need(config.data.source in sources, "data.source", f"one of {', '.join(sources)}")
    if config.mode == "train" and config.backbone.weights and config.data.source != "images":
        raise InputError(
            f"config.backbone.weights is given, but config.data.source is {config.data.source!r}; give "
            "--config.data.source=images to train on images, or omit --config.backbone.weights"
        )
    if config.mode == "train" and config.data.source == "images" and not config.backbone.weights:
        raise InputError(
            "config.backbone.weights is empty; images need a backbone: --config.backbone.weights=WEIGHTS "
            "(converted by fpsset convert), or train on features: --config.data.source=features"
        )
    for field in ("max_size", "max_clip", "threads"):
        need(config.data[field] >= 1, f"data.{field}", "at least 1")
    for field in ("people", "eval_people"):
        need(config.data[field] >= 4, f"data.{field}", "at least 4")
    need(config.data.dim >= 2 and config.data.dim % 2 == 0, "data.dim", "even")
    need(0 < config.data.holdout < 1, "data.holdout", "in (0, 1)")
    need(config.data.norm_mean >= 0, "data.norm_mean", "positive, or 0 to leave norms as they are")
    need(config.backbone.color_order in ("", "bgr", "rgb"), "backbone.color_order", "'bgr' or 'rgb'")
    need(config.backbone.dtype in ("float32", "bfloat16"), "backbone.dtype", "'float32' or 'bfloat16'")
    need(config.backbone.batch_size >= 1, "backbone.batch_size", "at least 1")
    metric = config.evaluation.metric
    need(_is_tar(metric), "evaluation.metric", "'tar@far=1e-1' ... 'tar@far=1e-6'")
    values = "'conservative' or 'nearest'"
    need(config.evaluation.convention in ("conservative", "nearest"), "evaluation.convention", values)
    if config.evaluation.pooling:
        switches_of(config.evaluation.pooling)
    need(config.evaluation.faces_per_batch >= 1, "evaluation.faces_per_batch", "at least 1")
    for field in ("resamples", "seed"):
        need(config.evaluation[field] >= 0, f"evaluation.{field}", "at least 0")


class _Need:
    """Raises InputError for a field whose value is invalid."""

    def __init__(self, config: ConfigDict):
        self._config = config

    def __call__(self, ok: bool, field: str, values: str) -> None:
        if not ok:
            value = self._config
            for part in field.split("."):
                value = value[part]
            raise InputError(f"config.{field} is {value!r}; it must be {values}")


def _numbers(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields (field, value) for every number in a configuration, those in sequences included."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _numbers(value, f"{prefix}{key}.")
        else:
            for item in value if isinstance(value, tuple | list) else (value,):
                if isinstance(item, int | float):
                    yield prefix + key, item


def _is_tar(metric: str) -> bool:
    return metric.startswith("tar@far=1e-") and metric[11:] in tuple("123456")


def _is_range(text: str) -> bool:
    parts = text.split(":")
    return len(parts) == 2 and all(map(str.isdecimal, parts)) and 1 <= int(parts[0]) <= int(parts[1])
