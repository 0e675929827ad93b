"""Weights of a tiny checkpoint under the names of a layout.

The spread of the values is that of `testmodels.tensors`; the names here and those in the converter
are two tables written apart, so that each checks the other.
"""

from typing import Iterator

import numpy as np

from testmodels.random_weights import bell
from testmodels.tensors import KERNEL, Tensor, decoder_tensors, tower_tensors

from .shapes import Family

_BLOCK = {"ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
          "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
_QWEN_BLOCK = {"ln1": "norm1", "ln2": "norm2", "attn_out": "attn.proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
_LAYER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
          "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
          "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_TOWER = {"v.patch_embd.weight": "embeddings.patch_embedding.weight", "v.patch_embd.bias": "embeddings.patch_embedding.bias",
          "v.class_embd": "embeddings.class_embedding", "v.position_embd.weight": "embeddings.position_embedding.weight",
          "v.pre_ln.weight": "pre_layrnorm.weight", "v.pre_ln.bias": "pre_layrnorm.bias"}


def values_of(family: Family, tensor: Tensor) -> np.ndarray:
    """The numbers of one tensor, which GGUF's name for it chooses; f32."""
    values = bell(family.seed, tensor.name, tensor.shape) * np.float32(tensor.std) + np.float32(tensor.mean)
    if tensor.kind == KERNEL:
        # llama.cpp rounds the kernel to f16 whatever the file holds.
        values = values.astype(np.float16).astype(np.float32)
    return values


def _decoder_name(name: str, original: bool, qwen: bool) -> str:
    plain = original or qwen
    if name == "output.weight":
        return "lm_head.weight" if plain else "language_model.lm_head.weight"
    prefix = "model." if plain else "language_model.model."
    if name == "token_embd.weight":
        return prefix + "embed_tokens.weight"
    if name.startswith("output_norm"):
        return prefix + "norm.weight"
    _, layer, part, kind = name.split(".")
    return f"{prefix}layers.{layer}.{_LAYER[part]}.{kind}"


def _tower_name(name: str, original: bool) -> str:
    prefix = "model.vision_tower.vision_tower.vision_model." if original else "vision_tower.vision_model."
    if name.startswith("mm."):
        _, number, kind = name.split(".")
        if original:
            return f"model.mm_projector.{number}.{kind}"
        return f"multi_modal_projector.linear_{int(number) // 2 + 1}.{kind}"
    if name in _TOWER:
        return prefix + _TOWER[name]
    _, _, layer, part, kind = name.split(".")
    return f"{prefix}encoder.layers.{layer}.{_BLOCK[part]}.{kind}"


def _qwen_tower(family: Family, values: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    kernels = [values["v.patch_embd.weight"], values["v.patch_embd.weight.1"]]
    yield "visual.patch_embed.proj.weight", np.stack(kernels, axis=2)
    for layer in range(family.tower.stored):
        block = f"v.blk.{layer}"
        for kind in ("weight", "bias"):
            parts = [values[f"{block}.attn_{p}.{kind}"] for p in "qkv"]
            yield f"visual.blocks.{layer}.attn.qkv.{kind}", np.concatenate(parts)
            for ours, theirs in _QWEN_BLOCK.items():
                yield f"visual.blocks.{layer}.{theirs}.{kind}", values[f"{block}.{ours}.{kind}"]
    for kind in ("weight", "bias"):
        yield f"visual.merger.ln_q.{kind}", values[f"v.post_ln.{kind}"]
        for number in (0, 2):
            yield f"visual.merger.mlp.{number}.{kind}", values[f"mm.{number}.{kind}"]


def checkpoint_weights(family: Family, original: bool) -> dict[str, np.ndarray]:
    """All weights in f32, in the order of the file."""
    weights = {}
    for tensor in decoder_tensors(family.decoder):
        qwen = family.name == "qwen2_vl"
        weights[_decoder_name(tensor.name, original, qwen)] = values_of(family, tensor)
    tower = {tensor.name: values_of(family, tensor) for tensor in tower_tensors(family.tower)}
    if family.name == "qwen2_vl":
        weights.update(_qwen_tower(family, tower))
        return weights
    for name, values in tower.items():
        weights[_tower_name(name, original)] = values
    prefix = "model.vision_tower.vision_tower." if original else "vision_tower."
    # In every release, and run by nobody: the features are taken before it.
    for kind, mean in (("weight", 1.0), ("bias", 0.0)):
        post = Tensor(f"post.{kind}", (family.tower.width,), "scale", 0.1, mean)
        weights[f"{prefix}vision_model.post_layernorm.{kind}"] = values_of(family, post)
    if family.pinpoints is not None:
        newline = values_of(family, Tensor("newline", (family.decoder.width,), "vector", 1.0))
        weights["model.image_newline" if original else "image_newline"] = newline
    return weights
