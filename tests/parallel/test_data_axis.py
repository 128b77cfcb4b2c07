"""One training step over many devices: the results of one device, less memory, expected communication."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fpsset
from fpsset.config import base_config
from fpsset.data.pipeline import TrainingBatch
from fpsset.errors import InputError
from fpsset.models.margin_heads import HEADS
from fpsset.parallel import mesh as meshes
from fpsset.parallel.mesh import data_mesh, padded_classes, process_rows, put_batch
from fpsset.parallel.sharded_softmax import margin_cross_entropy
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step
from tests.sets import make_set, with_padding

DIM, BATCH, SLOTS, CLASSES = 32, 16, 8, 13  # 13 columns become 16 on 8 devices
ROOT = jax.random.key(0)


def make_batches(count: int) -> list[TrainingBatch]:
    """Ragged sets with NaN in their padding."""
    batches = []
    for number in range(count):
        seeds = [BATCH * number + i for i in range(BATCH)]
        sets = [with_padding(*make_set(s, 1 + s % SLOTS, dim=DIM), s, SLOTS)[:3] for s in seeds]
        face_set = fpsset.FaceSet(*[np.stack(arrays) for arrays in zip(*sets, strict=True)])
        labels = np.random.default_rng(number).integers(0, CLASSES, BATCH)
        batches.append(TrainingBatch(face_set, labels.astype(np.int32)))
    return batches


class Trainer:
    """A training step over some devices; only shapes until it is run."""

    def __init__(self, mesh, classes: int = CLASSES, **fields):
        self.mesh = mesh
        model = fpsset.FaceCoresetNet(**{"num_heads": 2} | fields)
        head = fpsset.AdaFaceHead(classes, columns=padded_classes(classes, mesh))
        config = base_config().optimizer
        config.learning_rate = 1e-3
        optimizer, constant = make_optimizer(config), geometric(1.0, 1.0, 10)
        self.step = make_train_step(model, head, optimizer, ROOT, constant, constant, mesh)
        self.init = lambda: init_state(model, head, optimizer, ROOT, DIM)
        self.shapes = meshes.state_shapes(self.init, mesh)

    @functools.cached_property
    def program(self):
        return self.step.lower(self.shapes, meshes.batch_shapes(make_batches(1)[0], self.mesh)).compile()

    def train(self, batches: list[TrainingBatch]):
        """The losses and the final state; all steps use one compiled program."""
        state, losses = meshes.sharded_init(self.init, self.mesh), []
        for batch in batches:
            state, metrics = self.program(state, put_batch(batch, self.mesh))
            losses.append(metrics["loss"])
        return [float(loss) for loss in losses], state


def on(devices: int, classes: int = CLASSES, **fields) -> Trainer:
    return Trainer(data_mesh(jax.devices()[:devices]), classes, **fields)


@pytest.fixture(scope="module")
def batches():
    return make_batches(2) * 10


@pytest.fixture(scope="module")
def one():
    return on(1)


@pytest.fixture(scope="module")
def eight():
    return on(8)


def collectives(program: str) -> list[tuple[str, list[int]]]:
    """(kind, elements of each result) of every message between devices, from HLO."""
    found = []
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
    for results, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", program):
        shapes = re.findall(r"\w+\[([\d,]*)\]", results)
        found.append((kind, [int(np.prod([int(n) for n in s.split(",") if n], dtype=int)) for s in shapes]))
    return found


def test_the_step_sends_what_is_expected_and_no_more(one, eight):
    """Rows, their gradients, three numbers per row, the set model's gradient and a few scalars."""
    assert collectives(one.program.as_text()) == []
    found = collectives(eight.program.as_text())
    sizes = {kind: sorted(n for k, s in found if k == kind for n in s) for kind, _ in found}
    assert set(sizes) == {"all-gather", "reduce-scatter", "all-reduce"}
    # Labels, two margins, descriptors; no logits, whose number would be the classes times the batch.
    assert sizes["all-gather"] == [BATCH] * 3 + [BATCH * DIM]
    assert sizes["reduce-scatter"] == [BATCH * DIM // 8]
    weights = sum(leaf.size for leaf in jax.tree.leaves(eight.shapes.params["aggregator"]))
    assert weights <= sum(sizes["all-reduce"]) < 1.05 * weights + 3 * BATCH


def test_twenty_steps_equal_those_of_one_device(one, eight, batches):
    (losses, expected), (shared_losses, state) = one.train(batches), eight.train(batches)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(shared_losses, losses, atol=1e-5)
    kernels = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (DIM, 16)]
    assert len(kernels) == 3  # and two moments
    for kernel in kernels:
        assert kernel.sharding.shard_shape(kernel.shape) == (DIM, 2)
        assert not np.asarray(kernel)[:, CLASSES:].any()
    params = jax.device_get(state.params)
    params["head"]["kernel"] = params["head"]["kernel"][:, :CLASSES]
    for first, other in zip(jax.tree.leaves(expected.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(first, other, atol=1e-5)


def test_a_device_holds_its_share_of_200_000_classes():
    """In the state, its creation and a step: a few times a device's share, never the whole kernel of 8."""
    trainer = on(8, 200_000, coreset_size=1, dropout_rate=0.0)  # a model that compiles sooner
    places = jax.tree.map(lambda shape: shape.sharding, trainer.shapes)
    step, init = trainer.program, jax.jit(trainer.init, out_shardings=places).lower().compile()
    share, little = 4 * DIM * 200_000 // 8, 1 << 19
    assert init.memory_analysis().output_size_in_bytes < 3 * share + little
    assert init.memory_analysis().temp_size_in_bytes < 4 * share + little
    assert step.memory_analysis().argument_size_in_bytes < 3 * share + little
    assert step.memory_analysis().temp_size_in_bytes < 4 * share + little


@pytest.mark.parametrize("name", HEADS)
def test_the_split_softmax_is_the_softmax_of_the_logits(name, batches):
    """Values and gradients against optax on whole logits, with and without a padded class."""
    rng = np.random.default_rng(0)
    descriptor = rng.standard_normal((BATCH, DIM)).astype(np.float32)
    descriptor /= np.linalg.norm(descriptor, axis=-1, keepdims=True)
    norm = rng.uniform(5, 40, BATCH).astype(np.float32)
    kernel = rng.standard_normal((DIM, CLASSES)).astype(np.float32)
    labels = batches[0].labels
    for mesh in (None, data_mesh(jax.devices()[:4])):
        columns = CLASSES if mesh is None else padded_classes(CLASSES, mesh)
        head = HEADS[name](CLASSES, columns=columns)
        variables = jax.eval_shape(head.init, ROOT, descriptor, norm, labels)
        # Statistics of norms, where the head has any, and the kernel.
        variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 20, leaf.dtype), variables)
        variables["params"]["kernel"] = np.pad(kernel, ((0, 0), (0, columns - CLASSES)))

        @jax.jit
        def both(variables, descriptor, head=head, mesh=mesh):
            def whole(params, descriptor):
                logits = head.apply({**variables, "params": params}, descriptor, norm, labels)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return jnp.mean(losses), jnp.argmax(logits, axis=1) == labels

            def split(params, descriptor):
                terms = head.apply({**variables, "params": params}, DIM, norm, method="terms")
                losses, correct = margin_cross_entropy(head, terms, descriptor, labels, mesh)
                return jnp.mean(losses), correct

            return [
                jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], descriptor)
                for loss in (whole, split)
            ]

        for first, other in zip(*map(jax.tree.leaves, both(variables, descriptor)), strict=True):
            np.testing.assert_allclose(first, other, rtol=1e-5, atol=1e-5)


def test_batches_that_do_not_split_are_refused():
    with pytest.raises(InputError, match=r"config.batch_size is 12; over 8 devices .* e.g. 16"):
        process_rows(12, data_mesh())
    np.testing.assert_array_equal(process_rows(16, data_mesh()), np.arange(16))


@pytest.fixture(scope="module")
def sixty_four():
    """On devices that do not exist."""
    return Trainer(meshes.abstract_mesh(64), 1000, coreset_size=1)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_step_exports_for_64_devices(sixty_four, platform):
    batch = jax.tree.map(lambda array: np.repeat(array, 8, axis=0), make_batches(1)[0])
    batch = meshes.batch_shapes(batch, sixty_four.mesh)
    exported = jax.export.export(sixty_four.step, platforms=[platform])(sixty_four.shapes, batch)
    assert exported.nr_devices == 64 and exported.platforms == (platform,)
    assert "stablehlo.all_gather" in exported.mlir_module()
