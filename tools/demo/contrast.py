"""The tower's task: whether short texts are true of the whole picture.

SigLIP's objective (Zhai et al., 2023): each picture against each text of the batch by a sigmoid,
the picture pooled by attention, the texts encoded by a small transformer.  Nothing here knows which
patch shows what: the tower finds out by itself at which patches to look.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .model import initialise, split_heads
from .vocabulary import PAD, SIZE


class Pool(nn.Module):
    """Attention pooling: learned probes ask all tokens, their answers are put side by side."""

    def __init__(self, width, heads, probes, out):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, 1e-6)
        self.probes = nn.Parameter(torch.randn(probes, width) * width ** -0.5)
        self.k, self.v = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = nn.Linear(probes * width, 2 * out)
        self.out = nn.Linear(2 * out, out)

    def forward(self, x):
        x = self.norm(x)
        k, v = (split_heads(p(x), self.heads) for p in (self.k, self.v))
        q = split_heads(self.probes.expand(len(x), -1, -1).to(k.dtype), self.heads)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1)
        return self.out(F.gelu(self.mix(y)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x, mask):
        q, k, v = (split_heads(p, self.heads) for p in self.qkv(self.norm1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TextEncoder(nn.Module):
    """Texts as ids [B, T], PAD behind, to [B, out]."""

    def __init__(self, width, length, out, layers=2, heads=4):
        super().__init__()
        self.embedding = nn.Embedding(SIZE, width)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.position = nn.Parameter(torch.randn(length, width) * 0.1)
        self.layers = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width, 1e-6), nn.Linear(width, out)

    def forward(self, ids):
        seen = ids != PAD
        x = self.embedding(ids) + self.position
        for layer in self.layers:
            x = layer(x, seen[:, None, None, :])
        weights = seen[..., None].to(x.dtype)
        return self.out((self.norm(x) * weights).sum(1) / weights.sum(1))


class Contrast(nn.Module):
    def __init__(self, geometry, length, out=192, probes=8):
        super().__init__()
        self.pool = Pool(geometry.tower_width, geometry.tower_heads, probes, out)
        self.text = TextEncoder(96, length, out)
        self.scale = nn.Parameter(torch.tensor(10.0).log())
        self.bias = nn.Parameter(torch.tensor(-4.0))
        initialise(self)

    def forward(self, tokens, texts, holds):
        """The loss of the tower's tokens [B, N, width] against texts [T, length], of which
        `holds` [B, T] says which are true; and their logits [B, T]."""
        pictures = F.normalize(self.pool(tokens).float(), dim=-1)
        words = F.normalize(self.text(texts).float(), dim=-1)
        logits = pictures @ words.t() * self.scale.exp() + self.bias
        each = F.binary_cross_entropy_with_logits(logits, holds, reduction="none")
        return each.sum(1).mean(), logits


def ranked(logits, holds):
    """The share of (true, false) pairs of texts of one picture that the logits order rightly."""
    values = []
    for row, truth in zip(logits.detach().float(), holds > 0):
        if truth.any() and not truth.all():
            values.append((row[truth][:, None] > row[~truth][None]).float().mean())
    return float(torch.stack(values).mean()) if values else float("nan")
