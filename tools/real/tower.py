"""Reads DINOv2 ViT-S/14 out of an ONNX graph and computes it in PyTorch.

The graph's linear layers have lost their names; the nodes that use them have kept theirs. Layer scale is folded into the
projection before it, which changes no result: scale * (W x + b) = (scale W) x + scale b.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

PATCH, WIDTH, HEADS, LAYERS = 14, 384, 6, 12
EPSILON = 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Ours on the left, the graph's on the right; the third is the layer scale that is folded in.
PARTS = (
    ("ln1", "norm1", None),
    ("attn_q", "attention.attention.query", None),
    ("attn_k", "attention.attention.key", None),
    ("attn_v", "attention.attention.value", None),
    ("attn_out", "attention.output.dense", "layer_scale1"),
    ("ln2", "norm2", None),
    ("ffn_up", "mlp.fc1", None),
    ("ffn_down", "mlp.fc2", "layer_scale2"),
)


def weights(graph_bytes: bytes) -> dict[str, np.ndarray]:
    """Returns the tower's tensors in float32 under llama.cpp's names, without `v.position_embd.weight`.

    `positions` is the table of the graph, [37, 37, 384]; `position_class` the class token's row, [384].
    """
    graph = onnx.load_model_from_string(graph_bytes).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name: value for name, value in stored.items() if not name.startswith("onnx::")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            layer = node.name.strip("/").replace("/", ".").removesuffix(".MatMul")
            named[layer + ".weight"] = stored[node.input[1]].T

    tables = {value.shape: value for name, value in stored.items() if name.startswith("onnx::")}
    found = {
        "positions": tables[1, 37 * 37, WIDTH].reshape(37, 37, WIDTH),
        "position_class": tables[1, 1, WIDTH].reshape(WIDTH),
        "v.patch_embd.weight": named["backbone.embeddings.patch_embeddings.projection.weight"],
        "v.patch_embd.bias": named["backbone.embeddings.patch_embeddings.projection.bias"],
        "v.class_embd": named["backbone.embeddings.cls_token"].reshape(WIDTH),
        "v.post_ln.weight": named["backbone.layernorm.weight"],
        "v.post_ln.bias": named["backbone.layernorm.bias"],
    }
    for layer in range(LAYERS):
        prefix = f"backbone.encoder.layer.{layer}."
        for ours, theirs, scale in PARTS:
            weight, bias = named[f"{prefix}{theirs}.weight"], named[f"{prefix}{theirs}.bias"]
            if scale:
                factor = named[f"{prefix}{scale}.lambda1"]
                weight, bias = weight * factor[:, None], bias * factor
            found[f"v.blk.{layer}.{ours}.weight"] = weight
            found[f"v.blk.{layer}.{ours}.bias"] = bias
    return found


def position_table(tensors: dict[str, np.ndarray], across: int) -> np.ndarray:
    """Returns position rows for `across` x `across` patches, the class token's first: [1 + across^2, 384].

    The table is resampled as DINOv2 does it: bicubic, half-pixel centres.
    """
    table = torch.from_numpy(tensors["positions"].copy()).permute(2, 0, 1)[None]
    resampled = F.interpolate(table, size=(across, across), mode="bicubic", align_corners=False)
    rows = resampled[0].permute(1, 2, 0).reshape(across * across, WIDTH).numpy()
    return np.concatenate([tensors["position_class"][None], rows])


@dataclass
class Tower:
    """The tower in PyTorch, for training and as an account that shares no code with the engine."""

    tensors: dict[str, torch.Tensor]
    across: int

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray], side: int, dtype: torch.dtype = torch.float32) -> "Tower":
        across = side // PATCH
        own = {name: value for name, value in tensors.items() if name.startswith("v.")}
        own["v.position_embd.weight"] = position_table(tensors, across)
        return cls({name: torch.from_numpy(np.array(value)).to(dtype) for name, value in own.items()}, across)

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.tensors[name + ".weight"], self.tensors[name + ".bias"])

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), self.tensors[name + ".weight"], self.tensors[name + ".bias"], EPSILON)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [B, 3, side, side] -> [B, 1 + across^2, 384], the class token first."""
        t = self.tensors
        patches = F.conv2d(pixels, t["v.patch_embd.weight"], t["v.patch_embd.bias"], stride=PATCH)
        rows = patches.flatten(2).transpose(1, 2)
        first = t["v.class_embd"].expand(len(rows), 1, WIDTH)
        return torch.cat([first, rows], 1) + t["v.position_embd.weight"]

    def block(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """One block without merging: [B, N, 384] -> [B, N, 384]."""
        name = f"v.blk.{layer}."
        y = self.norm(name + "ln1", x)
        split = [
            self.linear(name + part, y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in ("attn_q", "attn_k", "attn_v")
        ]
        mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        x = x + self.linear(name + "attn_out", mixed)
        y = F.gelu(self.linear(name + "ffn_up", self.norm(name + "ln2", x)))
        return x + self.linear(name + "ffn_down", y)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [B, 3, side, side] -> rows after the last norm [B, 1 + across^2, 384]."""
        x = self.embed(pixels)
        for layer in range(LAYERS):
            x = self.block(layer, x)
        return self.norm("v.post_ln", x)
