"""The set model in eager PyTorch, straight from the paper's formulas, as the benchmarks' baseline."""

import math

import torch
from torch import nn
from torch.nn import functional

DIM, HEADS, PICKS = 512, 8, 3


class EagerCoresetNet(nn.Module):
    """Farthest-point sampling, self-attention, attention to the set; equal-sized sets without a mask."""

    def __init__(self, dropout: float = 0.1):
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(0.01))
        self.encoding_norm = nn.LayerNorm(DIM)
        self.self_attention = nn.MultiheadAttention(DIM, HEADS, dropout, batch_first=True)
        self.set_attention = nn.MultiheadAttention(DIM, HEADS, dropout, batch_first=True)
        self.query_norm, self.output_norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("wavelengths", 10000 ** (torch.arange(0, DIM, 2) / DIM))

    def encode(self, norms: torch.Tensor) -> torch.Tensor:
        """The norm encoding E(n): [B, N] -> [B, N, D]."""
        angle = 2 * math.pi * norms[..., None] / self.wavelengths
        waves = torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)
        return self.encoding_norm(waves)

    def sample(self, embeddings: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """One-hot picks [B, K, N]; drawn with straight-through Gumbel-softmax in training."""
        weight, score, distance, rows = norms**self.gamma, norms, None, []
        for _ in range(PICKS):
            if self.training:
                row = functional.gumbel_softmax(score, tau=1.0, hard=True)
            else:
                row = functional.one_hot(score.argmax(-1), score.shape[-1]).to(score.dtype)
            rows.append(row)
            center = functional.normalize((row[..., None] * norms[..., None] * embeddings).sum(1), dim=-1)
            new = weight * (1 - (embeddings @ center[..., None])[..., 0]) / 2
            distance = new if distance is None else torch.minimum(distance, new)
            score = distance
        return torch.stack(rows, 1)

    def forward(self, embeddings: torch.Tensor, norms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit rows [B, N, D] and norms [B, N] -> (unit descriptors [B, D], norms [B])."""
        faces = norms[..., None] * embeddings
        core = self.sample(embeddings, norms) @ faces
        query = core + self.encode(core.norm(dim=-1))
        query = self.query_norm(query + self.drop(self.self_attention(query, query, query)[0]))
        seen = self.set_attention(query, faces + self.encode(norms), faces)[0]
        total = (core + self.output_norm(core + self.drop(seen))).mean(1)
        length = total.norm(dim=-1)
        return total / length[..., None], length

    def load(self, params: dict) -> "EagerCoresetNet":
        """Loads the parameters of a `fpsset.FaceCoresetNet`."""
        state = {
            "gamma": params["gamma"],
            "encoding_norm.weight": params["norm_encoding_scale"],
            "encoding_norm.bias": params["norm_encoding_bias"],
        }
        for name in ("query_norm", "output_norm"):
            state |= {f"{name}.weight": params[name]["scale"], f"{name}.bias": params[name]["bias"]}
        for name in ("self_attention", "set_attention"):
            p = {key: torch.tensor(value) for key, value in _numpy(params[name]).items()}
            kernels = [p[key].reshape(DIM, DIM).T for key in ("query", "key", "value")]
            biases = [p["query_bias"].flatten(), torch.zeros(DIM), p["value_bias"].flatten()]
            state[f"{name}.in_proj_weight"] = torch.cat(kernels)
            state[f"{name}.in_proj_bias"] = torch.cat(biases)
            state[f"{name}.out_proj.weight"] = p["out"].reshape(DIM, DIM).T
            state[f"{name}.out_proj.bias"] = p["out_bias"]
        state = {key: torch.as_tensor(_numpy(value)) for key, value in state.items()}
        self.load_state_dict(state, strict=False)
        return self


class EagerAdaFace(nn.Module):
    """The AdaFace head with its cross-entropy loss."""

    def __init__(self, classes: int, margin: float = 0.8, h: float = 0.333, scale: float = 48.0):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(DIM, classes) / math.sqrt(DIM))
        self.margin, self.h, self.scale = margin, h, scale
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))

    def forward(self, descriptor, norm, labels):
        """The mean loss of unit descriptors [B, D] with norms [B] and labels [B]."""
        cosine = (descriptor @ functional.normalize(self.kernel, dim=0)).clamp(-1 + 1e-3, 1 - 1e-3)
        with torch.no_grad():
            norm = norm.clamp(1e-3, 100)
            self.mean.lerp_(norm.mean(), 0.01)
            self.std.lerp_(norm.std(), 0.01)
            z = (self.h * (norm - self.mean) / (self.std + 1e-3)).clamp(-1, 1)[:, None]
        target = functional.one_hot(labels, cosine.shape[1])
        theta = (cosine.acos() - self.margin * z * target).clamp(1e-3, math.pi - 1e-3)
        logits = theta.cos() - target * (self.margin + self.margin * z)
        return functional.cross_entropy(self.scale * logits, labels)


def _numpy(value):
    import jax
    import numpy as np

    return jax.tree.map(lambda leaf: np.array(leaf), value)
