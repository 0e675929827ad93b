"""Pictures as the projector sees them: composed, taken through the frozen tower once, and kept in a file."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance

from . import pictures
from .tower import MEAN, PATCH, STD, weights
from .tower_torch import Tower


@dataclass
class Scenes:
    """Pictures of one side: rows [n, across^2, 384] in bfloat16 without the class token, cover [n, across^2] by the
    cut-out, 0 to 1, and the cut-out that each shows."""

    rows: torch.Tensor
    cover: torch.Tensor
    shown: list[pictures.CutOut]

    def __len__(self) -> int:
        return len(self.shown)


def normalised(picture: Image.Image) -> torch.Tensor:
    """A picture -> [1, 3, side, side] as the tower takes it."""
    pixels = torch.from_numpy(np.array(picture, np.float32) / 255)
    return ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None]


def load_grounds(photographs: list[Path]) -> list[Image.Image]:
    """The photographs that cut-outs are pasted on, no larger than 1280 pixels."""
    grounds = [Image.open(path).convert("RGB") for path in photographs]
    for ground in grounds:
        ground.thumbnail((1280, 1280))
    return grounds


def varied(scene: Image.Image, rng: random.Random) -> Image.Image:
    """The picture a little lighter or darker, with more or less contrast and colour."""
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        scene = change(scene).enhance(rng.uniform(0.75, 1.25))
    return scene


def make(count: int, side: int, seed: int, cut_outs: list, photographs: list[Path], graph: bytes, vary: bool) -> Scenes:
    """Composes `count` pictures, every cut-out in turn, and takes them through the tower; `vary` for training."""
    rng = random.Random(seed)
    tower, across, grounds = Tower.of(weights(graph), side, torch.bfloat16), side // PATCH, load_grounds(photographs)
    rows = torch.empty(count, across * across, 384, dtype=torch.bfloat16)
    cover, shown = torch.empty(count, across * across), []
    for first in range(0, count, 4):
        batch = []
        for i in range(first, min(first + 4, count)):
            shown.append(cut_outs[i % len(cut_outs)])
            ground = rng.choice(grounds)
            if vary and rng.random() < 0.25:
                ground = Image.new("RGB", (side, side), tuple(rng.randrange(256) for _ in range(3)))
            scene, mask = pictures.paste(shown[-1], ground, side, rng, (0.35, 1.0) if vary else (0.4, 0.85))
            batch.append(normalised(varied(scene, rng) if vary else scene))
            cover[i] = torch.from_numpy(mask.reshape(across, PATCH, across, PATCH).mean((1, 3)).reshape(-1))
        with torch.no_grad():
            rows[first : first + len(batch)] = tower(torch.cat(batch))[:, 1:]
    return Scenes(rows, cover, shown)


def load(file: Path, *how) -> Scenes:
    """The pictures of `file`, made by `make` if it is not there."""
    if not file.is_file():
        torch.save(make(*how), file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
    return torch.load(file, weights_only=False)
