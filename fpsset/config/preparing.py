"""Fields of extractions and preparations, with defaults and checks."""

import math
import pathlib

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fpsset.config.checks import MODE, Need, numbers
from fpsset.config.training import RECIPE
from fpsset.errors import InputError
from fpsset.images.listing import MEDIA_PATTERN
from fpsset.images.presets import PRESETS

DATASETS = ("face_features", "webface4m_subset", "ijbb", "ijbc")


def extraction_config() -> ConfigDict:
    """Every field of an extraction, which turns images into features; see `configs/extract.py`."""
    config = ConfigDict()
    config.mode = "extract"
    config.images = ""  # a folder with one folder per person, or an IJB loose_crop folder
    config.weights = ""  # converted weights, a published checkpoint, or an .onnx file
    config.out = ""  # feature file to write, .npz or .parquet
    # Text file of lines 'name x1 y1 ... x5 y5 [score]', or of 68 points; empty: IJB's own where found, else
    # aligned crops.
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
    config.dtype = "float32"  # of a backbone's products, or 'bfloat16'
    config.batch_size = 64  # images of a step, which the devices of a process share
    config.batches_per_part = 64  # an interruption loses at most this many
    config.threads = 4  # decoding images
    config.flip = False  # also embed mirrored images, for protocols that pool both
    config.augmented = 0  # augmented clips made from each image, to train on; 0: the image as it is
    config.clip_frames = 3  # frames per augmented clip
    config.channels = "rgb"  # in augmentation; or 'bgr'
    config.operations = "merged"  # of the augmentation, or 'ordered': see recipe.operations of a training run
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
    need = Need(config)
    need(config.mode == "prepare" and "dataset" in config, "mode", MODE)
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
    need = Need(config)
    need(config.mode == "extract" and "images" in config, "mode", MODE)
    for field, value in numbers(config):
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
    for field in ("channels", "operations"):
        need(config[field] in RECIPE[field], field, " or ".join(map(repr, RECIPE[field])))
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
