"""The fields of a run's configuration, their defaults (for why, see docs/train.md) and their limits."""

import math
import pathlib
from collections.abc import Iterator

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fpsset.errors import InputError
from fpsset.evaluation.pooling_protocols import switches_of
from fpsset.images.listing import MEDIA_PATTERN
from fpsset.models.margin_heads import HEADS
from fpsset.ops.metric import DEFAULT_GAMMA

DATASETS = ("face_features", "webface4m_subset", "ijbb", "ijbc")


def base_config() -> ConfigDict:
    """Every field a run knows; files in `configs/` change what they need."""
    config = ConfigDict()
    config.mode = "train"  # 'train' (which evaluates when done) or 'eval'
    config.weights = ""  # what to evaluate, a workdir or checkpoint; the workdir's best when empty
    config.seed = 0
    config.steps = 1000
    config.batch_size = 64  # templates a step
    config.log_every = 50
    config.eval_every = 500  # steps between validations, each followed by a checkpoint
    # A folder or bucket (gs://...) that all hosts reach, for checkpoints/ and config.json; the workdir when
    # empty. The best found there is evaluated; fpsset.load takes it as it takes a workdir.
    config.checkpoints = ""
    config.profile = ""  # 'START:STOP': a trace of these steps in the workdir, for TensorBoard or Perfetto
    config.tensorboard = False  # event files and a projector of descriptors in the workdir's tensorboard/
    config.compilation_cache = ""  # a folder that keeps compiled programs for later runs

    config.model = ConfigDict()
    config.model.coreset_size = 3
    config.model.num_heads = 1
    config.model.dropout_rate = 0.1
    config.model.gamma = 2.0  # where the learned exponent of the norm in the metric starts
    config.model.quality = True  # weigh faces and picks by a learned quality
    config.model.by_media = True  # a medium's faces weigh as one in the attention, where media are told
    config.model.init = "closed_form"  # a pooling computed from the training faces; or 'random'
    config.model.dtype = "float32"  # or 'bfloat16', of matrix products in training; the state is float32
    # Start and end of a geometric schedule over the run: what the scores are multiplied by before
    # the Gumbel noise, and the softmax's temperature.
    config.model.score_scale = (1.0, 1.0)
    config.model.temperature = (1.0, 1.0)

    config.head = ConfigDict()
    config.head.name = "adaface"  # adaface, arcface or cosface
    config.head.margin = 0.4
    config.head.scale = 48.0
    config.head.h = 0.333  # of adaface alone
    config.head.init = "centers"  # the descriptors of each person's faces; or 'random'
    config.head.trained = False  # whether the classes move from where they start

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-5
    config.optimizer.weight_decay = 0.0
    config.optimizer.gamma_learning_rate = 1e-4
    config.optimizer.milestones = ()  # steps at which both rates are multiplied by the decay
    config.optimizer.decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.optimizer.accumulate = 1  # steps whose gradients are averaged into one update

    config.data = ConfigDict()
    config.data.source = "features"  # what data.train holds: 'features', 'images' or 'synthetic' (no file)
    config.data.train = ""  # a feature file or prepared dataset; of 'images' a folder, .rec pack or dataset
    config.data.eval = ""  # the same, or a folder in the layout of IJB-B and IJB-C
    config.data.eval_features = ""  # of an IJB folder given as data.eval; found beside it when empty
    config.data.protocol = ""  # CSV or Parquet: path or row, template, subject, media, role; of data.eval
    config.data.pairs = ""  # lines 'template template same'; all pairs of templates when empty
    config.data.max_size = 20  # faces in a training template
    config.data.max_clip = 3  # frames of one seed in a row
    config.data.holdout = 0.1  # share of the training people kept for validation
    config.data.norm_mean = 20.0  # norms are scaled to this mean over the training faces; 0: as they are
    config.data.threads = 4  # that decode images
    config.data.people = 1000  # synthetic people to train on, and
    config.data.eval_people = 200  # others to evaluate on
    config.data.dim = 512  # width of synthetic embeddings

    config.backbone = ConfigDict()  # frozen; it embeds data.train where data.source is 'images'
    config.backbone.weights = ""  # converted weights or a published checkpoint
    config.backbone.color_order = ""  # 'bgr' or 'rgb', of published weights that do not say
    config.backbone.dtype = "float32"  # or 'bfloat16', of its convolutions
    config.backbone.batch_size = 64  # faces at a time
    config.backbone.check_color_order = True  # by embedding a sample both ways

    config.evaluation = ConfigDict()
    config.evaluation.metric = "tar@far=1e-3"  # on held-out people; the best checkpoint is chosen by it
    # How TAR at FAR is read off: 'conservative' (FAR <= target) or 'nearest' (InsightFace's code, for
    # comparison with published figures; the FAR achieved may exceed the target).
    config.evaluation.convention = "conservative"
    # One more method, which pools as a published protocol does: a name of
    # `fpsset.evaluation.pooling_protocols.PROTOCOLS`, or switches of it joined by '+', e.g. 'norm+media'.
    config.evaluation.pooling = ""
    config.evaluation.faces_per_batch = 16384
    # Let small sets share rows of slots: fewer compilations and less padding, for accelerators.
    config.evaluation.packed = False
    config.evaluation.fps_gamma = DEFAULT_GAMMA  # of the baseline 'fps'
    config.evaluation.resamples = 200  # of the subjects, for 95% intervals; 0: none
    config.evaluation.seed = 0  # of this resampling
    return config


def published_config() -> ConfigDict:
    """The recipe of the paper, its supplement and its official script, whatever the defaults are."""
    config = base_config()
    config.steps = 4000
    config.batch_size = 40  # 20 on each of two GPUs
    config.model.num_heads = 8
    config.model.gamma = 0.01
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
      folder: of the protocol, 'IJBB' or 'IJBC'; `config.data.eval` names another.
      mode: 'images' or 'features', what to train on; or 'eval', which trains nothing.
    """
    config = published_config()
    config.mode = "train" if mode in ("images", "features") else mode
    if mode == "features":
        config.data.train = "webface4m.npz"
    else:
        config.data.source = "images"
        config.data.train = "datasets/webface4m_subset/10000_seed0/1.0.0"
        config.backbone.weights = "weights/adaface"
    config.data.norm_mean = 0.0  # norms as the backbone gives them, as in configs/webface4m.py
    config.data.eval = folder
    return config


def extraction_config() -> ConfigDict:
    """Every field of an extraction, images to features; `configs/extract.py` is one."""
    config = ConfigDict()
    config.mode = "extract"
    config.images = ""  # a folder per person, or an IJB loose_crop folder
    config.weights = ""  # converted weights, a published checkpoint, or an .onnx file
    config.out = ""  # the feature file to write, .npz or .parquet
    config.landmarks = ""  # lines 'name x1 y1 ... x5 y5 [score]'; empty: IJB's where found, or aligned crops
    config.media_pattern = MEDIA_PATTERN  # file names with the same group 1 are one video
    # How an .onnx file wants its pixels, (x - mean) / std in this order; converted weights know.
    config.color_order = ""  # 'bgr' or 'rgb'
    config.mean = placeholder(float)
    config.std = placeholder(float)
    config.check_color_order = True  # by embedding a sample both ways
    config.dtype = "float32"  # or 'bfloat16', of an IResNet's convolutions
    config.batch_size = 64
    config.batches_per_part = 64  # what an interruption can cost
    config.threads = 4  # that decode
    config.flip = False  # also embed the mirrored images, for protocols that pool both
    config.augmented = 0  # clips made of each image, to train on; 0: the image as it is
    config.clip_frames = 3  # frames of such a clip
    config.seed = 0  # of the augmentation
    return config


def preparation_config() -> ConfigDict:
    """Every field of a preparation, files to a TFDS dataset; `configs/prepare.py` is one."""
    config = ConfigDict()
    config.mode = "prepare"
    config.dataset = ""  # one of DATASETS
    config.source = ""  # a feature file, IJB's folder, a folder per person or a .rec pack
    config.out = "datasets"  # the folder that datasets go to, TFDS's data_dir
    config.features = ""  # of ijbb and ijbc; found in the source or beside it when empty
    config.weights = ""  # of a backbone, which makes those features of the source's loose_crop
    config.records = "person"  # or 'template': what a record of face_features holds
    config.people = 10_000  # of webface4m_subset, drawn from those of the source
    config.seed = 0  # of that draw
    return config


def check_preparation_config(config: ConfigDict) -> None:
    """Raises InputError that names the first field with an impossible value, and the values it may have."""
    need = _Need(config)
    need(config.mode == "prepare" and "dataset" in config, "mode", "its config file's")
    need(config.dataset in DATASETS, "dataset", f"one of {', '.join(DATASETS)}: configs/prepare.py:NAME")
    for field, example in (("source", "DIR"), ("out", "DIR")):
        if not config[field]:
            raise InputError(f"config.{field} is empty; give --config.{field}={example}")
    need(not config.weights or config.dataset in ("ijbb", "ijbc"), "weights", "empty but for ijbb and ijbc")
    need(not (config.weights and config.features), "weights", "empty where features are given")
    need(config.records in ("person", "template"), "records", "'person' or 'template'")
    need(config.people >= 1, "people", "at least 1")
    need(config.seed >= 0, "seed", "at least 0")


def check_extraction_config(config: ConfigDict) -> None:
    """Raises InputError that names the first field with an impossible value, and the values it may have."""
    need = _Need(config)
    need(config.mode == "extract" and "images" in config, "mode", "its config file's")
    for field, value in _numbers(config):
        need(math.isfinite(value), field, "finite")
    for field, example in (("images", "DIR"), ("weights", "FILE"), ("out", "FILE.npz")):
        if not config[field]:
            raise InputError(f"config.{field} is empty; give --config.{field}={example}")
    named = pathlib.PurePath(config.out).suffix in (".npz", ".parquet")
    need(named, "out", "a file name that ends in .npz or .parquet")
    need(not (config.flip and config.augmented), "flip", "False where clips are made; they mirror frames")
    need(config.color_order in ("", "bgr", "rgb"), "color_order", "'bgr' or 'rgb'")
    need(config.std is None or config.std > 0, "std", "positive")
    need(config.dtype in ("float32", "bfloat16"), "dtype", "'float32' or 'bfloat16'")
    for field in ("batch_size", "batches_per_part", "threads", "clip_frames"):
        need(config[field] >= 1, field, "at least 1")
    for field in ("augmented", "seed"):
        need(config[field] >= 0, field, "at least 0")


def check_config(config: ConfigDict) -> None:
    """Raises InputError that names the first field with an impossible value, and the values it may have."""
    need = _Need(config)
    need(config.mode in ("train", "eval") and "model" in config, "mode", "its config file's")
    for field, value in _numbers(config):
        need(math.isfinite(value), field, "finite")
    need(config.mode == "eval" or not config.weights, "weights", "empty unless the mode is 'eval'")
    need(config.seed >= 0, "seed", "at least 0")
    for field in ("steps", "batch_size", "log_every", "eval_every"):
        need(config[field] >= 1, field, "at least 1")
    need(config.model.coreset_size >= 1, "model.coreset_size", "at least 1: a coreset holds a face")
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
    need(fine, "optimizer.milestones", "rising steps, each at least 1")
    need(config.optimizer.accumulate >= 1, "optimizer.accumulate", "at least 1")
    need(not config.profile or _is_range(config.profile), "profile", "empty, or START:STOP, steps from 1")
    sources = ("features", "images", "synthetic")
    need(config.data.source in sources, "data.source", f"one of {', '.join(sources)}")
    if config.mode == "train" and config.backbone.weights and config.data.source != "images":
        raise InputError(
            f"config.backbone.weights is given, but config.data.source is {config.data.source!r}; give "
            "--config.data.source=images to train on images, or leave the backbone out"
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
    """Raises InputError for a field whose value is impossible."""

    def __init__(self, config: ConfigDict):
        self._config = config

    def __call__(self, ok: bool, field: str, values: str) -> None:
        if not ok:
            value = self._config
            for part in field.split("."):
                value = value[part]
            raise InputError(f"config.{field} is {value!r}; it must be {values}")


def _numbers(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of the configuration with its field."""
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
