"""fpsset: turns a set of faces of one person into one descriptor (FaceCoresetNet in JAX and Flax)."""

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

__version__ = "0.1.0"

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
