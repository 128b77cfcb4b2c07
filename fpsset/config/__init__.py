"""Configuration fields of every kind of run, with defaults and checks."""

from fpsset.config.preparing import (
    DATASETS,
    check_extraction_config,
    check_preparation_config,
    extraction_config,
    preparation_config,
)
from fpsset.config.published import ijb_config, published_config
from fpsset.config.training import MODELS, base_config, check_config

__all__ = [
    "DATASETS",
    "MODELS",
    "base_config",
    "check_config",
    "check_extraction_config",
    "check_preparation_config",
    "extraction_config",
    "ijb_config",
    "preparation_config",
    "published_config",
]
