"""Device memory that training and aggregation need, as the compiler estimates it."""

import os
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fpsset.config import base_config
from fpsset.data.pipeline import TrainingBatch
from fpsset.face_set import FaceSet
from fpsset.models.margin_heads import HEADS
from fpsset.training.modules import make_set_model
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step


class Sizes(NamedTuple):
    """Sizes of the training step and the aggregation."""

    dim: int  # D, even
    people: int  # classes of the head
    batch_size: int  # templates per training step
    set_size: int  # faces per template
    faces: int  # padded faces aggregated at once
    coreset_size: int


class Footprint(NamedTuple):
    """Bytes on one device."""

    state: int  # kept between calls: parameters, and in training the optimizer's moments
    inputs: int  # one batch
    working: int  # temporary buffers and results

    @property
    def total(self) -> int:
        """Peak use."""
        return sum(self)


def footprints(sizes: Sizes) -> dict[str, Footprint]:
    """Compiles, without running, a training step and an aggregation of the default recipe.

    Args:
      sizes: of both; compiled for the default device.

    Returns:
      {'training': ..., 'aggregation': ...}.
    """
    config = base_config()
    config.model.coreset_size = sizes.coreset_size
    model = make_set_model(config.model)
    head = HEADS["adaface"](num_classes=sizes.people)
    optimizer, root = make_optimizer(config.optimizer, config.head.trained), jax.random.key(0)
    state = jax.eval_shape(lambda: init_state(model, head, optimizer, root, sizes.dim))
    constant = geometric(1.0, 1.0, 1)
    step = make_train_step(model, head, optimizer, root, constant, constant, head_trained=config.head.trained)
    labels = jax.ShapeDtypeStruct((sizes.batch_size,), jnp.int32)
    batch = TrainingBatch(_sets(sizes.batch_size, sizes), labels)
    variables = {"params": state.params["aggregator"]}
    sets = _sets(max(sizes.faces // sizes.set_size, 1), sizes)
    return {
        "training": _footprint(step, state, batch),
        "aggregation": _footprint(jax.jit(model.apply), variables, sets),
    }


def device_memory(device: jax.Device) -> int | None:
    """Memory of a device in bytes, of the machine for a CPU; None if unknown."""
    stats = None if device.platform == "cpu" else device.memory_stats()
    if stats:
        return stats.get("bytes_limit")
    if device.platform == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _sets(count: int, sizes: Sizes) -> FaceSet:
    shape = (count, sizes.set_size)
    return FaceSet(
        jax.ShapeDtypeStruct((*shape, sizes.dim), jnp.float32),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct(shape, jnp.bool_),
    )


def _footprint(function, kept, inputs) -> Footprint:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
        analysis = function.lower(kept, inputs).compile().memory_analysis()
    # Donated buffers are reused for outputs; they are counted once, with the state.
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Footprint(_bytes(kept), _bytes(inputs), analysis.temp_size_in_bytes + max(new, 0))


def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
