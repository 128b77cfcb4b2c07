"""Images of people, embedded for `fpsset people`."""

import dataclasses
import pathlib

import numpy as np

from fpsset.commands.backbones import backbone_config
from fpsset.data.feature_table import FeatureTable
from fpsset.images.in_memory import embed_images
from fpsset.images.listing import list_images, list_person
from fpsset.runtime.programs import keep_programs
from fpsset.runtime.progress import StepProgress


def read_people(folder: pathlib.Path, backbone: dict) -> FeatureTable:
    """Embeds a folder of images of one person, or with a folder for each person.

    Args:
      folder: the folder.
      backbone: values of `fpsset.commands.options.backbone_options`.

    Raises:
      InputError: there is no backbone, or no image can be read.
    """
    config = backbone_config(backbone, folder)
    images = list_person(folder, backbone["landmarks"])
    alone = images is not None
    images = images if alone else list_images(folder, backbone["landmarks"])
    if ignored := images.said_ignored():
        StepProgress.say(ignored)
    keep_programs()
    table, _, problems = embed_images(images, config)
    for problem in problems:
        StepProgress.say(f"left out: {problem}")
    if not alone:
        return table
    paths = [f"{folder.resolve().name}/{path}" for path in table.paths]
    return dataclasses.replace(table, paths=np.array(paths))
