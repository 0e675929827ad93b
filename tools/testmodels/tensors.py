"""The tensors of a tower and of a decoder: names, shapes and spread of their values.

Shapes are numpy's (rows first); GGUF stores them reversed. `std` is the spread
before rounding. It keeps the residual stream near unit size, and it makes
attention uneven: with the small weights of a fresh model all tokens would
receive nearly the same attention and scores would tie within rounding noise.

Two roundings to f16 that llama.cpp makes even for F32 files are kept small, so that F32 runs can be
compared closely. GELU is looked up in an f16 table (its branches are small beside the residual stream).
The patch convolution takes its kernel as f16 (a `KERNEL` holds f16 values in every file type).
"""

from dataclasses import dataclass
from math import sqrt
from typing import Iterator

from .shapes import Decoder, Tower

MATRIX, KERNEL, VECTOR, SCALE, TABLE = "matrix", "kernel", "vector", "scale", "table"


@dataclass(frozen=True)
class Tensor:
    """One tensor. Only a `MATRIX` or `TABLE` may be quantised; a `KERNEL` is F16 at most."""

    name: str
    shape: tuple[int, ...]
    kind: str
    std: float
    mean: float = 0.0
    zero_rows: int = 0
    zero_columns: int = 0
    values: tuple[float, ...] = ()  # themselves, if they are not random


def matrix(name: str, rows: int, columns: int, gain: float = 1.0, **padding) -> Tensor:
    return Tensor(name, (rows, columns), MATRIX, gain / sqrt(columns), **padding)


def norm(name: str, width: int, bias: bool) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (width,), SCALE, 0.1, 1.0)
    if bias:
        yield Tensor(f"{name}.bias", (width,), VECTOR, 0.1)


def linear(name: str, rows: int, columns: int, gain: float = 1.0, bias: float = 0.1, **padding):
    yield matrix(f"{name}.weight", rows, columns, gain, **padding)
    zero_rows = padding.get("zero_rows", 0)
    yield Tensor(f"{name}.bias", (rows,), VECTOR, bias, zero_rows=zero_rows)


def tower_tensors(tower: Tower) -> Iterator[Tensor]:
    w, patch = tower.width, tower.patch
    kernel = (w, 3, patch, patch)
    # Pixels are of about unit size and correlated within a patch.
    spread = 0.5 / sqrt(3 * patch)
    if tower.family == "qwen2vl":
        yield Tensor("v.patch_embd.weight", kernel, KERNEL, spread)
        yield Tensor("v.patch_embd.weight.1", kernel, KERNEL, spread)
    else:
        yield Tensor("v.patch_embd.weight", kernel, KERNEL, spread)
        rows = tower.tokens
        if tower.family == "clip":
            rows += 1
            yield Tensor("v.class_embd", (w,), VECTOR, 1.0)
            yield from norm("v.pre_ln", w, bias=True)
        else:
            yield Tensor("v.patch_embd.bias", (w,), VECTOR, 0.1)
        yield Tensor("v.position_embd.weight", (rows, w), VECTOR, 0.5)

    padding = tower.mlp - (tower.mlp_padded_from or tower.mlp)
    for i in range(tower.stored):
        block = f"v.blk.{i}"
        yield from norm(f"{block}.ln1", w, bias=True)
        yield from linear(f"{block}.attn_q", w, w, bias=0.9)
        yield from linear(f"{block}.attn_k", w, w)
        yield from linear(f"{block}.attn_v", w, w)
        yield from linear(f"{block}.attn_out", w, w, gain=0.7)
        yield from norm(f"{block}.ln2", w, bias=True)
        yield from linear(f"{block}.ffn_up", tower.mlp, w, zero_rows=padding)
        yield from linear(f"{block}.ffn_down", w, tower.mlp, gain=0.25, zero_columns=padding)

    if tower.family == "qwen2vl":
        yield from norm("v.post_ln", w, bias=True)
        yield from linear("mm.0", tower.projector_hidden, 4 * w)
    else:
        yield from linear("mm.0", tower.projector_hidden, w)
    yield from linear("mm.2", tower.output, tower.projector_hidden, gain=0.35, bias=0.8)


def has_head_norms(decoder: Decoder) -> bool:
    """Whether queries and keys are normalised head by head."""
    return decoder.arch.startswith(("gemma3", "gemma4", "qwen3"))


def has_post_norms(decoder: Decoder) -> bool:
    """Whether a layer normalises what attention and MLP add."""
    return decoder.arch in ("gemma3", "gemma4", "glm4")


def has_fused_mlp(decoder: Decoder) -> bool:
    """Whether the first MLP matrix holds the gate above the values."""
    return decoder.arch in ("glm4", "phi3")


def has_qkv_biases(decoder: Decoder) -> bool:
    return decoder.arch in ("glm4moe", "qwen2", "qwen2vl")


def decoder_tensors(decoder: Decoder) -> Iterator[Tensor]:
    w = decoder.width
    yield Tensor("token_embd.weight", (decoder.vocabulary, w), TABLE, 1.0)
    if decoder.arch == "gemma4":
        # The first quarter of a head's pairs turns, in layers without a window.
        turning = decoder.head_size // 8
        factors = (1.0,) * turning + (1e30,) * (decoder.head_size // 2 - turning)
        yield Tensor("rope_freqs.weight", (len(factors),), VECTOR, 0.0, values=factors)
    for i in range(decoder.layers):
        block = f"blk.{i}"
        yield from norm(f"{block}.attn_norm", w, bias=False)
        yield from _attention(decoder, i)
        # GLM-4.5 has the norm before its MLP under another name.
        yield from norm(f"{block}.{'post_attention_norm' if decoder.arch == 'glm4moe' else 'ffn_norm'}", w, bias=False)
        experts = decoder.experts > 0 and i >= decoder.dense
        if experts:
            yield from _experts(decoder, i)
        if not experts or decoder.arch == "gemma4":
            yield from _mlp(decoder, i)
        if has_head_norms(decoder):
            for name in ("attn_q_norm", "attn_k_norm"):
                yield from norm(f"{block}.{name}", decoder.head_of(i), bias=False)
        if has_post_norms(decoder):
            yield from norm(f"{block}.post_attention_norm", w, bias=False)
            # The norm brings GELU's f16 to full size: it is kept small here.
            small = 0.3 if decoder.arch == "gemma4" else 1.0
            yield Tensor(f"{block}.post_ffw_norm.weight", (w,), SCALE, 0.1 * small, small)
        if decoder.arch == "gemma4":
            yield Tensor(f"{block}.layer_output_scale.weight", (1,), SCALE, 0.1, 1.0)
    yield from norm("output_norm", w, bias=False)
    if not decoder.tied:
        yield matrix("output.weight", decoder.vocabulary, w)


def _attention(decoder: Decoder, layer: int) -> Iterator[Tensor]:
    block, w = f"blk.{layer}", decoder.width
    query = decoder.heads * decoder.head_of(layer)
    kv = decoder.kv_heads_of(layer) * decoder.head_of(layer)
    parts = (("q", query, 0.9), ("k", kv, 0.1), ("v", kv, 0.1))
    if decoder.arch == "phi3":
        parts = (("qkv", query + 2 * kv, 0.1),)
    elif decoder.full_kv_heads and not decoder.windowed(layer):
        parts = parts[:2]
    for name, rows, spread in parts:
        yield matrix(f"{block}.attn_{name}.weight", rows, w)
        if has_qkv_biases(decoder):
            yield Tensor(f"{block}.attn_{name}.bias", (rows,), VECTOR, spread)
    yield matrix(f"{block}.attn_output.weight", w, query, gain=0.7)


def _mlp(decoder: Decoder, layer: int) -> Iterator[Tensor]:
    block, w, mlp = f"blk.{layer}", decoder.width, decoder.mlp
    if has_fused_mlp(decoder):
        yield matrix(f"{block}.ffn_up.weight", 2 * mlp, w)
    else:
        yield matrix(f"{block}.ffn_gate.weight", mlp, w)
        yield matrix(f"{block}.ffn_up.weight", mlp, w)
    yield matrix(f"{block}.ffn_down.weight", w, mlp, gain=0.7)


def _experts(decoder: Decoder, layer: int) -> Iterator[Tensor]:
    block, w, mlp = f"blk.{layer}", decoder.width, decoder.mlp
    yield matrix(f"{block}.ffn_gate_inp.weight", decoder.experts, w)
    for name, rows, columns, gain in (("gate", mlp, w, 1.0), ("up", mlp, w, 1.0), ("down", w, mlp, 0.7)):
        shape = (decoder.experts, rows, columns)
        yield Tensor(f"{block}.ffn_{name}_exps.weight", shape, MATRIX, gain / sqrt(columns))
        if decoder.arch == "glm4moe":
            yield matrix(f"{block}.ffn_{name}_shexp.weight", rows, columns, gain)
    if decoder.arch == "glm4moe":
        yield Tensor(f"{block}.exp_probs_b.bias", (decoder.experts,), VECTOR, 0.1)
    if decoder.arch == "gemma4":
        # Its router takes rows of length one.
        yield Tensor(f"{block}.ffn_gate_inp.scale", (w,), SCALE, 0.8, 8.0)
        yield Tensor(f"{block}.ffn_down_exps.scale", (decoder.experts,), SCALE, 0.1, 1.0)
        for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
            yield from norm(f"{block}.{name}", w, bias=False)
