"""Reads a GGUF file into float64 tensors and plain metadata."""

from pathlib import Path

import gguf
import numpy as np
import torch


class Weights:
    """Tensors by name, dequantised to float64, and the file's metadata."""

    def __init__(self, path: Path):
        reader = gguf.GGUFReader(path)
        self.fields = {key: field.contents() for key, field in reader.fields.items()}
        self.kinds = {t.name: t.tensor_type for t in reader.tensors}
        self._tensors = {}
        for t in reader.tensors:
            values = gguf.quants.dequantize(t.data, t.tensor_type)
            shape = tuple(int(n) for n in reversed(t.shape))
            self._tensors[t.name] = torch.from_numpy(values.astype(np.float64)).reshape(shape)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def get(self, name: str) -> torch.Tensor | None:
        return self._tensors.get(name)

    def is_half(self, name: str) -> bool:
        return self.kinds[name] == gguf.GGMLQuantizationType.F16
