"""A checkpoint folder: its configuration, and its tensors wherever they are, read row by row.

No file is ever mapped or read whole, so that memory does not grow with the size of a shard.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from gguf.utility import SafetensorsLocal

from .causes import check_adapter, check_names, check_quantised
from .problem import Problem
from .torch_file import TorchFile

# Type in the file -> type that numpy reads; BF16 is the upper half of an F32.
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "F64": np.dtype("<f8")}


class Source(Protocol):
    """A stored tensor: shape as numpy counts, and `dtype` as safetensors names it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows of the first axis in f32."""
        ...


def to_f32(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


@dataclass(frozen=True)
class SafetensorsSource:
    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    def rows(self, start: int, stop: int) -> np.ndarray:
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        stored = _DTYPES[self.dtype]
        count = (stop - start) * width
        values = np.fromfile(self.path, stored, count, offset=self.offset + start * width * stored.itemsize)
        if values.size != count:
            raise Problem(f"{self.path} is truncated: tensor {self.name} is not all there; download it again")
        return to_f32(values, self.dtype).reshape(stop - start, *self.shape[1:])


def read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise Problem(f"{path} holds no JSON object")
    return content


class Checkpoint:
    """A folder as it is downloaded. `tensors` maps names to sources, in the order of the files."""

    def __init__(self, folder: Path):
        check_adapter(folder)
        if not (folder / "config.json").is_file():
            why = "it has no config.json" if folder.is_dir() else "there is no such folder"
            raise Problem(f"{folder} is not a checkpoint folder: {why}")
        self.folder = folder
        self.config = read_json(folder / "config.json")
        check_quantised(folder, self.config)
        self.files = _weight_files(folder)
        self.tensors: dict[str, Source] = {}
        for path in self.files:
            found = safetensors(path) if path.suffix == ".safetensors" else TorchFile(path).sources()
            self.tensors.update((source.name, source) for source in found)
        check_names(folder, self.tensors)

    def json(self, name: str) -> dict:
        """An optional file of the folder; empty if there is none."""
        path = self.folder / name
        return read_json(path) if path.is_file() else {}

    def text(self, name: str) -> str | None:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.is_file() else None


def _weight_files(folder: Path) -> list[Path]:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            names = sorted(set(read_json(folder / index).get("weight_map", {}).values()))
            _all_there(folder, names, index)
            return [folder / name for name in names]
    for pattern in ("model*.safetensors", "pytorch_model*.bin", "*.safetensors"):
        files = sorted(path for path in folder.glob(pattern) if not path.name.startswith("adapter_"))
        if files:
            total = re.search(r"-of-0*(\d+)\.", files[0].name)
            if total and len(files) != int(total[1]):
                raise Problem(f"{folder}: {len(files)} of {total[1]} shards are there; download the others")
            return files
    raise Problem(f"{folder} has no weights: neither model.safetensors nor its shards nor pytorch_model.bin")


def _all_there(folder: Path, names: list[str], index: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise Problem(
            f"{folder}: shard {missing[0]} is missing ({len(missing)} of {len(names)} that {index} lists); download it"
        )
    if not names:
        raise Problem(f"{folder / index} lists no shards")


def safetensors(path: Path) -> list[SafetensorsSource]:
    size = path.stat().st_size
    try:
        tensors = SafetensorsLocal(path).tensors
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError):
        raise Problem(f"{path} is no safetensors file, or a damaged one; download it again") from None
    sources = []
    for name, tensor in tensors.items():
        place = tensor.data_range
        if place.offset + place.size > size:
            raise Problem(f"{path} is truncated: tensor {name} ends at byte {place.offset + place.size} of {size}")
        if tensor.dtype in _DTYPES:
            sources.append(SafetensorsSource(name, tensor.dtype, tuple(tensor.shape), path, place.offset))
        elif tensor.dtype.startswith("F8"):
            raise Problem(f"{path}: tensor {name} is stored as FP8 ({tensor.dtype}); convert the model it was made from, in "
                          "F32, F16 or BF16")
        elif tensor.dtype in ("I8", "U8", "I32") and len(tensor.shape) == 2:
            raise Problem(f"{path}: tensor {name} is a matrix of integers ({tensor.dtype}), so the weights are quantised; "
                          "convert the model it was made from, in F32, F16 or BF16")
        elif not tensor.dtype.startswith(("I", "U", "BOOL")):
            raise Problem(f"{path}: tensor {name} is stored as {tensor.dtype}; a checkpoint in F32, F16 or BF16 is needed")
    return sources
