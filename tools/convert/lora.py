"""LoRA adapters of PEFT, applied to a checkpoint's tensors while they are read.

W' = W + s * B A with s = alpha / r (alpha / sqrt(r) with rank-stabilised LoRA), row by row: of B only the rows that are asked
for, of A all of it, which has r rows. Other tensors of an adapter (`modules_to_save`, biases, the projector that LLaVA's
authors save as `non_lora_trainables.bin`) replace the checkpoint's.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .checkpoint import Checkpoint, Source, read_json, safetensors
from .names import canonical
from .problem import Problem, say
from .torch_file import TorchFile

_LORA = re.compile(r"^(.*)\.lora_([AB])(?:\.default)?\.weight$")
_PARTS = ("adapter_model.safetensors", "adapter_model.bin", "non_lora_trainables.bin")


@dataclass(frozen=True)
class Merged:
    """A stored matrix [rows, columns] with an adapter's product added: `up` [rows, r], `down` [r, columns]."""

    base: Source
    up: Source
    down: Source
    scale: float

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def dtype(self) -> str:
        return self.base.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    def rows(self, start: int, stop: int) -> np.ndarray:
        down = self.down.rows(0, self.down.shape[0])
        return self.base.rows(start, stop) + np.float32(self.scale) * (self.up.rows(start, stop) @ down)


def apply_adapter(checkpoint: Checkpoint, folder: Path) -> None:
    """Replaces the tensors of `checkpoint` that the adapter in `folder` changes."""
    if not (folder / "adapter_config.json").is_file():
        raise Problem(f"--lora {folder} is no adapter's folder: it has no adapter_config.json")
    config = read_json(folder / "adapter_config.json")
    _check(folder, config)
    stored = _tensors(folder)
    places = {canonical(name): name for name in checkpoint.tensors}
    pairs: dict[str, dict[str, Source]] = {}
    replaced = 0
    for name, source in stored.items():
        if match := _LORA.match(name):
            pairs.setdefault(match[1], {})[match[2]] = source
            continue
        if "lora_" in name or "trainable_tokens" in name:
            raise Problem(f"{folder}: tensor {name} is of a kind that is not supported; merge the adapter with PEFT's "
                          "merge_and_unload and convert what it saves")
        short = canonical(name)
        if short is not None:
            checkpoint.tensors[places.get(short, name)] = source
            replaced += 1
    for module, pair in pairs.items():
        _merge(checkpoint, folder, module, pair, places, config)
    say(f"{folder}: {len(pairs)} matrices changed by the adapter, {replaced} tensors replaced")


def _check(folder: Path, config: dict) -> None:
    kind = str(config.get("peft_type", "LORA"))
    unsupported = {"use_dora": config.get("use_dora"), "fan_in_fan_out": config.get("fan_in_fan_out"),
                   "lora_bias": config.get("lora_bias")}
    wrong = [key for key, value in unsupported.items() if value]
    if kind != "LORA" or wrong:
        raise Problem(f"{folder}: an adapter of type {kind}{' with ' + wrong[0] if wrong else ''} is not supported; merge it "
                      "with PEFT's merge_and_unload and convert what it saves")


def _tensors(folder: Path) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for name in _PARTS:
        path = folder / name
        if path.is_file():
            sources = safetensors(path) if path.suffix == ".safetensors" else TorchFile(path).sources()
            found.update((source.name, source) for source in sources)
    if not found:
        raise Problem(f"{folder} has no weights of an adapter: neither {_PARTS[0]} nor {_PARTS[1]}")
    return found


def _merge(checkpoint: Checkpoint, folder: Path, module: str, pair: dict, places: dict, config: dict) -> None:
    place = places.get(canonical(f"{module}.weight"))
    if place is None:
        raise Problem(f"{folder}: the adapter changes {module}, which {checkpoint.folder} does not have; is it an adapter of "
                      "another model?")
    base = checkpoint.tensors[place]
    if set(pair) != {"A", "B"}:
        raise Problem(f"{folder}: the adapter has one half only of {module}; download it again")
    up, down = pair["B"], pair["A"]
    fits = len(base.shape) == 2 and up.shape == (base.shape[0], down.shape[0]) and down.shape[1:] == (base.shape[1],)
    if not fits:
        raise Problem(f"{folder}: {module} is changed by {list(up.shape)} times {list(down.shape)}, the checkpoint's "
                      f"matrix is {list(base.shape)}")
    rank = down.shape[0]
    alpha = _of_module(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    told = _of_module(config.get("rank_pattern"), module, config.get("r", rank))
    if told != rank:
        raise Problem(f"{folder}: adapter_config.json says rank {told} for {module}, its file has {rank}")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    checkpoint.tensors[place] = Merged(base, up, down, scale)


def _of_module(patterns: dict | None, module: str, default):
    """PEFT's rule: the first pattern that matches the end of the module's name."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
