"""The language model's layers for training: frozen, with any number in the attention's mask.

It computes as transformers' Llama does, but in fewer and larger products, with the keys' heads not repeated: a step of
training takes half as long.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class Layer:
    """Weights of one layer; queries, keys and values in one matrix, gate and up in another."""

    attention_norm: torch.Tensor
    qkv: torch.Tensor
    out: torch.Tensor
    ffn_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x [B, L, heads, d] by cos and sin [B, L, 1, d]."""
    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin


class Decoder:
    """The layers of transformers' Llama `model` with keys and values of the tokens that begin every prompt."""

    def __init__(self, model, before: list[tuple[torch.Tensor, torch.Tensor]]):
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.size, self.epsilon = config.hidden_size // self.heads, config.rms_norm_eps
        self.rotary, self.norm, self.before = model.rotary_emb, model.norm.weight, before
        self.layers = []
        for layer in model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
            gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
            norms = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
            self.layers.append(Layer(norms[0], qkv, attention.o_proj.weight, norms[1], gate_up, mlp.down_proj.weight))

    def __call__(self, rows: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Rows [B, L, width] at positions [B, L] -> last hidden rows, normed.

        `mask` [B, L, before + L] is added to the scores: 0 for a token that counts once; the logarithm of its size for
        one that stands for several; a very low number for one that is not seen.
        """
        x, (batch, length, width) = rows, rows.shape
        group = self.heads // self.kv_heads
        cos, sin = (value[:, :, None] for value in self.rotary(rows, positions))
        mask = mask[:, None, None].to(x.dtype)
        for layer, (keys, values) in zip(self.layers, self.before, strict=True):
            y = F.linear(F.rms_norm(x, (width,), layer.attention_norm, self.epsilon), layer.qkv).unflatten(-1, (-1, self.size))
            split = y.split([self.heads, self.kv_heads, self.kv_heads], 2)
            q = turned(split[0], cos, sin).transpose(1, 2).reshape(batch, self.kv_heads, group * length, self.size)
            k = torch.cat([keys.expand(batch, -1, -1, -1), turned(split[1], cos, sin).transpose(1, 2)], 2)
            v = torch.cat([values.expand(batch, -1, -1, -1), split[2].transpose(1, 2)], 2)
            scores = (q @ k.transpose(2, 3)).unflatten(2, (group, length)) * self.size**-0.5 + mask
            mixed = scores.softmax(-1).flatten(2, 3) @ v
            x = x + F.linear(mixed.reshape(batch, self.heads, length, self.size).transpose(1, 2).flatten(2), layer.out)
            y = F.linear(F.rms_norm(x, (width,), layer.ffn_norm, self.epsilon), layer.gate_up)
            gate, up = y.chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return F.rms_norm(x, (width,), self.norm, self.epsilon)
