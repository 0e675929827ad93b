"""The model: a SigLIP tower, a two-layer projector and a Qwen2 decoder, arranged as
LLaVA-OneVision arranges pictures and videos."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .vocabulary import SIZE, USER


def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


class TowerLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c.tower_width
        self.heads = c.tower_heads
        self.norm1, self.norm2 = nn.LayerNorm(d, c.eps), nn.LayerNorm(d, c.eps)
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))
        self.up, self.down = nn.Linear(d, c.tower_mlp), nn.Linear(c.tower_mlp, d)

    def attend(self, x, scored):
        """x after attention, and, if `scored`, the attention each token received, [B, N]."""
        h = self.norm1(x)
        q, k, v = (split_heads(p(h), self.heads) for p in (self.q, self.k, self.v))
        if scored:
            map_ = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            y, received = map_ @ v, map_.mean((1, 2))
        else:
            y, received = F.scaled_dot_product_attention(q, k, v), None
        return x + self.out(y.transpose(1, 2).flatten(2)), received

    def feed(self, x):
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Tower(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.grid = c.grid
        self.patch = nn.Linear(3 * c.patch * c.patch, c.tower_width)
        self.position = nn.Parameter(_sincos(c.grid, c.tower_width) * 0.5)
        self.layers = nn.ModuleList(TowerLayer(c) for _ in range(c.tower_layers))

    def forward(self, pictures, scored=()):
        """Pictures, uint8 [B, H, W, 3], to tokens [B, N, width] and the attention received at
        the layers in `scored`, {layer: [B, N]}."""
        x = self.patch(cut(pictures, self.grid)) + self.position
        received = {}
        for number, layer in enumerate(self.layers):
            x, score = layer.attend(x, number in scored)
            if number in scored:
                received[number] = score
            x = layer.feed(x)
        return x, received


class DecoderLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c.width
        self.heads = c.heads
        self.norm1, self.norm2 = nn.RMSNorm(d, c.eps), nn.RMSNorm(d, c.eps)
        self.q, self.k, self.v = (nn.Linear(d, d) for _ in range(3))
        self.out = nn.Linear(d, d, bias=False)
        self.gate, self.up = (nn.Linear(d, c.mlp, bias=False) for _ in range(2))
        self.down = nn.Linear(c.mlp, d, bias=False)

    def project(self, x, rotation):
        h = self.norm1(x)
        q, k, v = (split_heads(p(h), self.heads) for p in (self.q, self.k, self.v))
        return rotate(q, rotation), rotate(k, rotation), v

    def finish(self, x, y):
        x = x + self.out(y.transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embedding = nn.Embedding(SIZE, c.width)
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c.layers))
        self.norm = nn.RMSNorm(c.width, c.eps)

    def rotation(self, positions):
        """Cosines and sines for positions [B, T]: two of [B, 1, T, head]."""
        d = self.c.width // self.c.heads
        rates = self.c.theta ** (-torch.arange(0, d, 2, device=positions.device) / d)
        angles = (positions[..., None] * rates).repeat(1, 1, 2)[:, None]
        return angles.cos(), angles.sin()

    def prefix(self, visual, scored=()):
        """Runs `<|user|>` and the visual rows [B, N, width]. Gives the keys and values of each
        layer, which is all that a question behind them sees. The first text position follows, and
        the image scores of the layers in `scored`, {layer: [B, N]}."""
        batch, n, _ = visual.shape
        user = self.embedding.weight[USER].expand(batch, 1, -1).to(visual.dtype)
        x = torch.cat([user, visual], 1)
        rotation = self.rotation(torch.arange(n + 1, device=x.device).expand(batch, -1))
        cache, received = [], {}
        for number, layer in enumerate(self.layers):
            q, k, v = layer.project(x, rotation)
            cache.append((k, v))
            if number in scored:
                received[number] = causal_score(q, k)[:, 1:]
            if number + 1 < len(self.layers):
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                x = layer.finish(x, y)
        return (cache, n + 1), received

    def read(self, prefix, ids, positions, segments):
        """Hidden states [B, T, width] of questions packed side by side behind one prefix; a
        token sees the prefix and what came before it in its own segment."""
        cache, start = prefix
        same = segments[:, :, None] == segments[:, None, :]
        allowed = same.tril()[:, None]
        rotation = self.rotation(positions + start)
        x = self.embedding(ids)
        for layer, (keys, values) in zip(self.layers, cache):
            q, k, v = layer.project(x, rotation)
            mask = F.pad(allowed, (keys.shape[2], 0), value=True)
            y = F.scaled_dot_product_attention(
                q, torch.cat([keys, k], 2), torch.cat([values, v], 2), attn_mask=mask)
            x = layer.finish(x, y)
        return self.norm(x)

    def logits(self, hidden):
        return hidden @ self.embedding.weight.t()


class Llava(nn.Module):
    def __init__(self, geometry):
        super().__init__()
        c = self.geometry = geometry
        self.tower = Tower(c)
        self.project1 = nn.Linear(c.tower_width, c.width)
        self.project2 = nn.Linear(c.width, c.width)
        self.newline = nn.Parameter(torch.randn(c.width) * 0.06)
        self.decoder = Decoder(c)
        initialise(self)
        for layer in (*self.tower.layers, *self.decoder.layers):
            layer.out.weight.data.mul_(0.2)     # a deep stack starts near the identity
            layer.down.weight.data.mul_(0.2)
        nn.init.normal_(self.decoder.embedding.weight, std=0.06)

    def projector(self, x):
        return self.project2(F.gelu(self.project1(x)))

    def rows(self, tokens):
        """The span's rows [B, rows, width] of the tower's tokens [B, views, N, tower width]: one
        picture as it is; two, each with a newline behind; more are the frames of a video, each
        interpolated to half its sides, with one newline at the end."""
        views = tokens.shape[1]
        x = self.projector(tokens)
        newline = self.newline.to(x.dtype).expand(x.shape[0], 1, -1)
        if views == 1:
            return x[:, 0]
        if views == 2:
            return torch.cat([part for view in x.unbind(1) for part in (view, newline)], 1)
        g, half = self.geometry.grid, self.geometry.pooled
        grid = x.flatten(0, 1).transpose(1, 2).unflatten(2, (g, g))
        small = F.interpolate(grid.float(), size=(half, half), mode="bilinear").to(x.dtype)
        frames = small.flatten(2).transpose(1, 2).unflatten(0, (-1, views)).flatten(1, 2)
        return torch.cat([frames, newline], 1)

    def answer(self, rows, batch, scored=()):
        """Logits at the positions with a target, and the decoder's image scores."""
        prefix, scores = self.decoder.prefix(rows, scored)
        hidden = self.decoder.read(prefix, batch["ids"], batch["positions"], batch["segments"])
        return self.decoder.logits(hidden[batch["targets"] >= 0]), scores


def initialise(model):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.7 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def cut(pictures, grid):
    """Pictures, uint8 [B, H, W, 3], to patches [B, N, 3 * patch * patch] in [-1, 1]. Each is in the
    order (channel, y, x) of a convolution's weight."""
    x = pictures.unflatten(2, (grid, -1)).unflatten(1, (grid, -1))
    return x.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2).float() / 127.5 - 1


def rotate(x, rotation):
    """Rotary embedding in the NeoX form: the two halves of a head are the pairs."""
    cos, sin = rotation
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def causal_score(q, k):
    """Attention received from the picture's tokens (all but the first), [B, N + 1]; rows are
    normalised over everything they can see."""
    n = q.shape[-2]
    hidden = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
    map_ = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(hidden, -torch.inf)
    return map_.softmax(-1)[:, :, 1:].mean((1, 2))


def _sincos(grid, width):
    """Fixed sine and cosine positions of the grid, the start of the learned ones."""
    rates = 10000 ** -torch.linspace(0, 1, width // 4)
    ys, xs = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    x, y = xs.reshape(-1, 1) * rates, ys.reshape(-1, 1) * rates
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], 1)
