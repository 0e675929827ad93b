"""LLaVA-1.5's projector in PyTorch."""

import numpy as np
import torch
import torch.nn.functional as F

from .export import TEXT_WIDTH
from .tower import WIDTH


class Projector(torch.nn.Module):
    """Two layers: rows [..., 384] -> [..., 576]. In training a share `drop` of what enters each layer is left out."""

    def __init__(self, drop: float = 0.1):
        super().__init__()
        self.first = torch.nn.Linear(WIDTH, TEXT_WIDTH)
        self.second = torch.nn.Linear(TEXT_WIDTH, TEXT_WIDTH)
        self.drop = drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.first(F.dropout(x, self.drop, self.training)))
        return self.second(F.dropout(x, self.drop, self.training))

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights under llama.cpp's names, float32."""
        layers = {"mm.0": self.first, "mm.2": self.second}
        return {
            f"{name}.{part}": getattr(layer, part).detach().numpy().copy()
            for name, layer in layers.items()
            for part in ("weight", "bias")
        }

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Takes the weights of `tensors`, whatever their float type."""
        for name, layer in (("mm.0", self.first), ("mm.2", self.second)):
            layer.weight.data = torch.from_numpy(np.array(tensors[name + ".weight"], np.float32))
            layer.bias.data = torch.from_numpy(np.array(tensors[name + ".bias"], np.float32))
