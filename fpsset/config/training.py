"""Fields of training and evaluation runs, with defaults (explained in docs/train.md) and checks."""

import math

from ml_collections import ConfigDict

from fpsset.config.checks import MODE, Need, numbers
from fpsset.errors import InputError
from fpsset.evaluation.pooling_protocols import switches_of
from fpsset.models.margin_heads import HEADS
from fpsset.models.selector import MAX_CORESET_SIZE
from fpsset.ops.metric import DEFAULT_GAMMA

MODELS = ("posterior", "face_coreset_net")
# Of each choice of config.recipe, the default and what FaceCoresetNet's official code does.
RECIPE = {
    "draws": ("people", "images"),
    "sizes": ("template", "group"),
    "statistics": ("batch", "group"),
    "clips": ("uniform", "remaining"),
    "variation": ("clip", "image"),
    "channels": ("rgb", "bgr"),
    "operations": ("merged", "ordered"),
}


def base_config() -> ConfigDict:
    """The default recipe, with every field of a training or evaluation run; `configs/` override some."""
    config = ConfigDict()
    config.mode = "train"  # 'train' (evaluates at the end) or 'eval'
    # For 'eval': a workdir or checkpoint, a plain pooling ('plain', 'mean', 'norm_weighted', 'media_mean',
    # 'fps'), or 'posterior' or 'whitened', fitted to data.train; empty: this workdir's best checkpoint.
    config.weights = ""
    config.seed = 0
    config.steps = 1000  # 0: recipe.epochs tells
    config.batch_size = 64  # templates per step, over all devices
    config.log_every = 50  # steps
    config.eval_every = 500  # steps between validations; each saves a checkpoint; 0: an epoch of the recipe
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
    config.head.t_alpha = 0.01  # rate of AdaFace's running mean and deviation of the norms
    config.head.init = "centers"  # descriptors of each person's faces; or 'random'
    config.head.trained = False  # update the class vectors

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-5
    config.optimizer.weight_decay = 0.0
    config.optimizer.gamma_learning_rate = 1e-4  # 0: gamma stays at model.gamma
    # Steps at which both learning rates are multiplied by `decay`; empty: those of recipe.milestones.
    config.optimizer.milestones = ()
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
    # Share of the training people held out for validation; 0: none, and the last checkpoint is evaluated
    # (face_coreset_net only).
    config.data.holdout = 0.1
    config.data.dtype = "float32"  # of features on their way to the device; float16 halves what a host moves
    config.data.norm_mean = 20.0  # norms are scaled to this mean over the training faces; 0: not scaled
    config.data.threads = 4  # decoding images
    config.data.people = 1000  # synthetic people to train on
    config.data.eval_people = 200  # synthetic people to evaluate on
    config.data.dim = 512  # width of synthetic embeddings

    # How to train where FaceCoresetNet's official code does it otherwise: docs/published.md has its choices
    # and the reasons for these. An image is what the rows of one seed, or else medium, show.
    config.recipe = ConfigDict()
    config.recipe.epochs = 0  # of training where `steps` is 0
    config.recipe.epoch = 1.0  # passes over the data in an epoch, at most 1; then all is shuffled anew
    config.recipe.milestones = ()  # epochs, for optimizer.milestones
    config.recipe.draws = "people"  # in turn; or 'images', so that a person weighs by its images
    config.recipe.sizes = "template"  # one draw of the size for each 'template' or 'group' of templates
    config.recipe.statistics = "batch"  # AdaFace's, of the norms of a 'batch' or 'group' of templates
    config.recipe.group = 20  # consecutive templates of a batch, as one GPU of several has them
    # Frames of a clip: 'uniform' in 1 ... max_clip, or 'remaining': uniform in 1 ... the frames that the
    # template still lacks, and at most max_clip.
    config.recipe.clips = "uniform"
    # From images only: crop, resolution and light are drawn once a 'clip' or once an 'image' and template;
    # channels in augmentation are 'rgb' or 'bgr'; RandAugment's operations are 'merged' into one motion
    # before light, without Equalize, or 'ordered' as drawn, with it.
    config.recipe.variation = "clip"
    config.recipe.channels = "rgb"
    config.recipe.operations = "merged"

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


def check_config(config: ConfigDict) -> None:
    """Raises InputError naming the first invalid field and the values it may take."""
    need = Need(config)
    need(config.mode in ("train", "eval") and "model" in config, "mode", MODE)
    for field, value in numbers(config):
        need(math.isfinite(value), field, "finite")
    need(config.mode == "eval" or not config.weights, "weights", "empty unless the mode is 'eval'")
    need(config.seed >= 0, "seed", "at least 0")
    for field in ("batch_size", "log_every"):
        need(config[field] >= 1, field, "at least 1")
    steps = "at least 1" if config.recipe.epochs < 1 else "at least 1, or 0 for that of config.recipe"
    need(config.steps >= (config.recipe.epochs < 1), "steps", steps)
    need(config.eval_every >= 0, "eval_every", "at least 1, or 0 for once an epoch of config.recipe")
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
    need(0 <= config.head.t_alpha <= 1, "head.t_alpha", "in [0, 1]")
    for field in ("learning_rate", "clip_norm", "decay"):
        need(config.optimizer[field] > 0, f"optimizer.{field}", "positive")
    for field in ("weight_decay", "gamma_learning_rate"):
        need(config.optimizer[field] >= 0, f"optimizer.{field}", "at least 0")
    need(_is_increasing(config.optimizer.milestones), "optimizer.milestones", "increasing steps, from 1 on")
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
    trained = config.model.name == "face_coreset_net"
    nobody = trained and config.data.holdout == 0
    need(0 < config.data.holdout < 1 or nobody, "data.holdout", f"in {'[' if trained else '('}0, 1)")
    need(config.data.dtype in ("float32", "float16"), "data.dtype", "'float32' or 'float16'")
    need(config.data.norm_mean >= 0, "data.norm_mean", "positive, or 0 to leave norms as they are")
    _check_recipe(config, need)
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


def _check_recipe(config: ConfigDict, need: Need) -> None:
    recipe = config.recipe
    need(recipe.epochs >= 0, "recipe.epochs", "at least 0")
    need(0 < recipe.epoch <= 1, "recipe.epoch", "in (0, 1]")
    need(_is_increasing(recipe.milestones), "recipe.milestones", "increasing epochs, from 1 on")
    for field, values in RECIPE.items():
        need(recipe[field] in values, f"recipe.{field}", " or ".join(map(repr, values)))
    need(recipe.group >= 1, "recipe.group", "at least 1")
    if recipe.statistics == "group" and config.batch_size % recipe.group:
        raise InputError(
            f"config.batch_size is {config.batch_size}; with config.recipe.statistics 'group' it must be a "
            f"multiple of config.recipe.group, {recipe.group}"
        )


def _is_increasing(milestones) -> bool:
    milestones = list(milestones)
    return all(isinstance(x, int) and x >= 1 for x in milestones) and milestones == sorted(set(milestones))


def _is_tar(metric: str) -> bool:
    return metric.startswith("tar@far=1e-") and metric[11:] in tuple("123456")


def _is_range(text: str) -> bool:
    parts = text.split(":")
    return len(parts) == 2 and all(map(str.isdecimal, parts)) and 1 <= int(parts[0]) <= int(parts[1])
