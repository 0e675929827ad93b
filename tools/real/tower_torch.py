"""The tower in PyTorch, for training and as an account that shares no code with the engine."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .tower import EPSILON, HEADS, LAYERS, PATCH, WIDTH, position_table


@dataclass
class Tower:
    """DINOv2 ViT-S/14 for pictures of one side. Residuals and norms are float32, products of `dtype`."""

    tensors: dict[str, torch.Tensor]
    across: int
    dtype: torch.dtype

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray], side: int, dtype: torch.dtype = torch.float32) -> "Tower":
        across = side // PATCH
        own = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items() if name.startswith("v.")}
        for name, value in own.items():
            if name.startswith("v.blk.") and "ln" not in name:
                own[name] = value.to(dtype)
        own["v.position_embd.weight"] = torch.from_numpy(position_table(tensors, across))
        return cls(own, across, dtype)

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x.to(self.dtype), self.tensors[name + ".weight"], self.tensors[name + ".bias"])

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
