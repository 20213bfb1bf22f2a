"""The network: a small Llama (RMSNorm, rotary embeddings, SwiGLU), with the output tied to the token embedding.

Rotary embeddings turn neighbouring pairs of dimensions, as llama.cpp does for this architecture, so that the weights
go into a GGUF without permutation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812, the name the field knows
from torch import Tensor, nn

RMS_EPS = 1e-5
ROPE_BASE = 10_000.0


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    n_vocab: int = 1024
    n_layer: int = 6
    n_embd: int = 128
    n_head: int = 4
    n_ff: int = 352
    n_ctx: int = 1024

    @property
    def encoder_layers(self) -> int:
        """Blocks before the residual stream that membank-llama captures with `layer="auto"`: half of them."""
        return max(1, self.n_layer // 2)


class Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, RMS_EPS)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.n_embd
        self.n_head = shape.n_head
        self.attn_norm, self.ffn_norm = Norm(width), Norm(width)
        self.attn_q, self.attn_k, self.attn_v, self.attn_output = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.ffn_gate, self.ffn_up = (nn.Linear(width, shape.n_ff, bias=False) for _ in range(2))
        self.ffn_down = nn.Linear(shape.n_ff, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        normed = self.attn_norm(x)

        def heads(linear: nn.Linear) -> Tensor:
            return linear(normed).view(batch, length, self.n_head, -1).transpose(1, 2)

        q, k, v = rotated(heads(self.attn_q), cos, sin), rotated(heads(self.attn_k), cos, sin), heads(self.attn_v)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, length, width))
        normed = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed))


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs (0, 1), (2, 3), … of the last dimension turned by their position's angles."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class RecallTiny(nn.Module):
    """Token ids (batch, length) to logits (batch, length, vocabulary)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.output_norm = Norm(shape.n_embd)
        half = shape.n_embd // shape.n_head // 2
        rates = ROPE_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(shape.n_ctx, dtype=torch.float64), rates)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        self.apply(self._start)
        with torch.no_grad():
            # what is added to the residual stream starts small, by its depth
            for block in self.blk:
                for added in (block.attn_output, block.ffn_down):
                    added.weight.mul_((2 * shape.n_layer) ** -0.5)

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)

    def _blocks(self, ids: Tensor, count: int) -> Tensor:
        x = self.token_embd(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.blk[:count]:
            x = block(x, cos, sin)
        return x

    def forward(self, ids: Tensor) -> Tensor:
        states = self._blocks(ids, len(self.blk))
        return F.linear(self.output_norm(states), self.token_embd.weight)

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What membank-llama captures: the residual stream at half depth, averaged where `mask`; of length 1."""
        states = self._blocks(ids, self.shape.encoder_layers)
        weight = mask.to(states.dtype).unsqueeze(-1)
        return F.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)
