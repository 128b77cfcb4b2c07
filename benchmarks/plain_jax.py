"""The set model in JAX, straight from the formulas: a baseline without absorbed or blockwise attention."""

import jax
import jax.numpy as jnp

import fpsset


def aggregate(params: dict, sets: fpsset.FaceSet) -> tuple[jax.Array, jax.Array]:
    """Descriptors [B, D] and norms [B], with the parameters of a `fpsset.FaceCoresetNet`."""
    mask, norms = sets.mask, jnp.where(sets.mask, sets.norms, 0)
    embeddings = jnp.where(mask[..., None], sets.embeddings, 0)
    faces = norms[..., None] * embeddings
    picks = fpsset.farthest_point_sampling(embeddings, norms, mask, 3, params["gamma"])
    valid = picks >= 0
    core = jnp.where(valid[..., None], jnp.take_along_axis(faces, picks[..., None], axis=1), 0)

    def encode(lengths):
        wavelengths = 10000.0 ** (jnp.arange(0, 512, 2) / 512)
        angle = 2 * jnp.pi * lengths[..., None] / wavelengths
        waves = jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*lengths.shape, 512)
        return layer_norm(waves, params["norm_encoding_scale"], params["norm_encoding_bias"])

    query = core + encode(jnp.linalg.norm(core, axis=-1))
    picked = attention(query, query, query, valid, params["self_attention"])
    query = layer_norm(query + picked, **params["query_norm"])
    seen = attention(query, faces + encode(norms), faces, mask, params["set_attention"])
    total = core + layer_norm(core + seen, **params["output_norm"])
    mean = jnp.where(valid[..., None], total, 0).sum(1) / jnp.maximum(valid.sum(1), 1)[:, None]
    length = jnp.linalg.norm(mean, axis=-1)
    return mean / length[:, None], length


def attention(query, key, value, mask, p):
    """Textbook multi-head attention, with every projection applied where it is defined."""
    q = jnp.einsum("bkc,chd->bkhd", query, p["query"]) + p["query_bias"]
    k = jnp.einsum("bnc,chd->bnhd", key, p["key"])
    v = jnp.einsum("bnc,chd->bnhd", value, p["value"]) + p["value_bias"]
    mixed = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
    return jnp.einsum("bkhd,hdc->bkc", mixed, p["out"]) + p["out_bias"]


def layer_norm(x, scale, bias):
    """Layer normalisation over the last axis."""
    centered = x - x.mean(-1, keepdims=True)
    return centered / jnp.sqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-5) * scale + bias
