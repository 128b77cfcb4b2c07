"""The interface of set models with a coreset, including descriptors of sets whose faces come in parts."""

import abc
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from fpsset.face_set import FaceSet, SetDescriptor
from fpsset.models.selector import Coreset, CoresetSelector
from fpsset.ops.attention import AttentionSums, merge_devices
from fpsset.ops.metric import DEFAULT_GAMMA


class SetModel(nn.Module, metaclass=abc.ABCMeta):
    """A set model with a coreset, whose faces may be split over devices or arrive in parts.

    For any split of a set into parts, `conclude(coreset, sums)` equals the model's call on the whole set,
    where coreset = `select(set)`, and sums merges `look(queries(coreset), part)` over the parts.

    Attributes:
      picks_ask: whether `look` depends on the picks' queries. If not, sums can be taken before the picks are
        final.
      ignores_norms: whether all norms count as 1, in the picks too.
    """

    picks_ask: ClassVar[bool] = True
    ignores_norms = False  # a field of subclasses; annotated here, it would come first among theirs

    def seen(self, face_set: FaceSet) -> FaceSet:
        """The sets as the model sees them: with norms of 1 if it ignores norms."""
        if not self.ignores_norms:
            return face_set
        return face_set.replace(norms=jnp.ones(jnp.shape(face_set.norms), jnp.float32))

    @abc.abstractmethod
    def select(self, face_set: FaceSet, axis_name: str | None = None) -> Coreset:
        """The picks at inference.

        Args:
          face_set: sets [*B, N].
          axis_name: inside `shard_map`, the device axis over which the slots of each set are split.
        """

    @abc.abstractmethod
    def queries(self, coreset: Coreset) -> jax.Array:
        """The queries that the picks put to every face: [*B, R, D] float32."""

    @abc.abstractmethod
    def look(self, queries: jax.Array, face_set: FaceSet, axis_name: str | None = None) -> AttentionSums:
        """Sums over some of the faces; `axis_name` names the devices that hold the others."""

    @abc.abstractmethod
    def conclude(self, coreset: Coreset, sums: AttentionSums) -> SetDescriptor:
        """The descriptor from the sums over all faces."""

    @abc.abstractmethod
    def with_attention(self, face_set: FaceSet) -> tuple[SetDescriptor, jax.Array]:
        """The call's output, and each pick's attention to each face: [*B, H, K, N], rows that sum to 1."""

    def over_devices(self, face_set: FaceSet, axis_name: str) -> SetDescriptor:
        """The call's output for sets whose slots are split over the devices of `axis_name`."""
        coreset = self.select(face_set, axis_name)
        queries = jax.lax.pcast(self.queries(coreset), axis_name, to="varying")
        return self.conclude(coreset, merge_devices(self.look(queries, face_set, axis_name), axis_name))

    def has_kernel(self, face_set: FaceSet) -> bool:
        """Whether a TPU computes the call for these sets in one kernel, by `in_one_kernel`."""
        del face_set
        return False

    def for_kernel(self) -> Any:
        """The parameters as `in_one_kernel` reads them, None for models without."""
        return None


def prepare_kernel(model: nn.Module, variables: dict) -> Any:
    """What `apply_on_one_device` can be given, so that it does not prepare it for each batch anew."""
    if not isinstance(model, SetModel) or type(model).for_kernel is SetModel.for_kernel:
        return None
    return model.apply(variables, method="for_kernel")


def apply_on_one_device(
    model: nn.Module, variables: dict, face_set: FaceSet, prepared: Any = None
) -> SetDescriptor:
    """A model's call at inference in its fastest form, for sets that no mesh splits.

    TPUs compute small sets in one kernel where the model has one. XLA cannot split a kernel over devices and
    JAX cannot differentiate it, so plain calls do without.

    Args:
      model: the model.
      variables: its variables.
      face_set: sets [*B, N].
      prepared: of `prepare_kernel`; None prepares it within.
    """
    call = functools.partial(model.apply, variables)
    if not (isinstance(model, SetModel) and model.has_kernel(face_set)):
        return call(face_set)
    return jax.lax.platform_dependent(
        face_set,
        prepared,
        tpu=functools.partial(call, method="in_one_kernel"),
        default=lambda face_set, _: call(face_set),
    )


class PoolingModel(SetModel):
    """A set model whose call is that of its parts, and the same in training: nothing in it is random.

    Attributes:
      coreset_size: K, faces picked.
      gamma_init: exponent of the norm in the picks' metric.
    """

    coreset_size: int = 3
    gamma_init: float = DEFAULT_GAMMA

    def setup(self):  # noqa: D102
        self.selector = CoresetSelector(self.coreset_size, self.gamma_init)
        nn.share_scope(self, self.selector)

    def __call__(self, face_set: FaceSet, *, train: bool = False) -> SetDescriptor:
        """Aggregates each set.

        Args:
          face_set: sets [*B, N] of D-dimensional faces.
          train: changes nothing.

        Raises:
          ValueError: K < 1, or a mask that is not bool.
        """
        del train
        face_set = face_set.checked()
        coreset = self.select(face_set)
        return self.conclude(coreset, self.look(self.queries(coreset), face_set))

    def select(self, face_set: FaceSet, axis_name: str | None = None) -> Coreset:
        """See `SetModel`."""
        return self.selector(self.seen(face_set.checked()), axis_name)
