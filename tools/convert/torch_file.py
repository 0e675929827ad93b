"""Tensors of a pytorch_model.bin, which the first LLaVA releases have. Needs torch, nothing else does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .problem import Problem

_NAMES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16", "torch.float64": "F64"}


@dataclass(frozen=True)
class TorchSource:
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: "TorchFile"

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self.file.tensors()[self.name][start:stop].float().numpy()


class TorchFile:
    """One file. The open ones are mapped, and only one at a time is open."""

    _open: tuple[Path, dict] | None = None

    def __init__(self, path: Path):
        self.path = path

    def tensors(self) -> dict:
        if TorchFile._open is None or TorchFile._open[0] != self.path:
            TorchFile._open = None
            TorchFile._open = (self.path, self._load())
        return TorchFile._open[1]

    def _load(self) -> dict:
        try:
            import torch
        except ImportError:
            raise Problem(f"{self.path} is a PyTorch file: install torch (the CPU build will do), then start again") from None
        try:
            # Only tensors: a pickle can hold code.
            return torch.load(self.path, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:  # torch raises what its readers raise
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Problem(f"{self.path} cannot be read by torch ({line})") from None

    def sources(self) -> list[TorchSource]:
        return [
            TorchSource(name, _NAMES[str(tensor.dtype)], tuple(tensor.shape), self)
            for name, tensor in self.tensors().items()
            if str(tensor.dtype) in _NAMES
        ]
