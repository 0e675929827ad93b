"""Pictures with known content: cut-outs pasted on photographs, and what they show.

A cut-out's kind follows from its folder, its name from the sentence beside it. Every fifth cut-out and every fourth
photograph is kept for questions: training never sees them.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {
    "animals/birds": "bird",
    "animals/insects": "insect",
    "animals/fish": "fish",
    "animals/mammals": "animal",
    "animals/marsupials": "animal",
    "animals/lizards": "animal",
    "animals/amphibians": "animal",
    "food/fruit": "fruit",
    "food/vegetables": "vegetable",
    "plants/flowers": "flower",
    "plants/trees": "tree",
    "vehicles": "vehicle",
    "military/vehicles": "vehicle",
    "town/roadsigns": "sign",
    "household/tools": "tool",
    "household/dishes": "dish",
    "hobbies/music": "instrument",
    "clothes": "clothing",
    "space/planets": "planet",
}
# Questions about a picture.
KIND = "What kind of thing is in the picture? Answer with one word."
NAME = "What is in the picture?"
ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class CutOut:
    """A picture with transparency, its kind and its name without article."""

    path: Path
    kind: str
    name: str


def cut_outs(root: Path) -> list[CutOut]:
    """All cut-outs that have a kind and a short name, in the order of their paths; drawings are left out."""
    base = root / "usr/share/tuxpaint/stamps"
    found = []
    for path in sorted(base.rglob("*.png")):
        place = path.relative_to(base).as_posix()
        kind = next((kind for folder, kind in KINDS.items() if place.startswith(folder + "/")), None)
        text = path.with_suffix(".txt")
        if kind is None or "cartoon" in place or path.stem.endswith("_mirror") or not text.is_file():
            continue
        name = text.read_text(encoding="utf-8").splitlines()[0].strip().rstrip(".").lower()
        name = re.sub(r"\s*\(.*?\)", "", name)
        if name and len(name.split()) <= 5:
            found.append(CutOut(path, kind, ARTICLE.sub("", name)))
    return found


def photographs(root: Path) -> list[Path]:
    """The photographs that cut-outs are pasted on."""
    return sorted((root / "usr/share/backgrounds/mate/nature").glob("*.jpg"))


def split(items: list, every: int) -> tuple[list, list]:
    """Items for training and, every `every`-th, for questions."""
    kept = [item for i, item in enumerate(items) if i % every != 0]
    return kept, items[::every]


def with_article(name: str) -> str:
    """`bird` -> `a bird`; a plural stays as it is."""
    if name.endswith("s") and not name.endswith("ss"):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def paste(
    cut_out: CutOut, photograph: Image.Image, side: int, rng: random.Random, scales: tuple[float, float] = (0.4, 0.85)
) -> tuple[Image.Image, np.ndarray]:
    """A square of the photograph with the cut-out at a random place; and its mask [side, side], 0 to 1.

    The longer side of the cut-out is `scales` of the square's.
    """
    width, height = photograph.size
    part = rng.uniform(0.4, 1.0) * min(width, height)
    left, top = rng.uniform(0, width - part), rng.uniform(0, height - part)
    scene = photograph.resize((side, side), Image.BICUBIC, (left, top, left + part, top + part))
    thing = Image.open(cut_out.path).convert("RGBA")
    thing = thing.crop(thing.getbbox())
    if rng.random() < 0.5:
        thing = thing.transpose(Image.FLIP_LEFT_RIGHT)
    scale = rng.uniform(*scales) * side / max(thing.size)
    size = [max(1, round(scale * length)) for length in thing.size]
    thing = thing.resize(size, Image.LANCZOS)
    at = (rng.randint(0, side - size[0]), rng.randint(0, side - size[1]))
    scene.paste(thing, at, thing)
    mask = Image.new("L", (side, side))
    mask.paste(thing.getchannel("A"), at)
    return scene, np.asarray(mask, np.float32) / 255
