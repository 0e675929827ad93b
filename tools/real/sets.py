"""Pictures for evidence, made with fixed seeds from packages: photographs, compositions with true masks, pages of text."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import packages, pictures, rcc
from .scenes import load_grounds

# Photographs of gcompris-qt-data that are named after what they show; no kind, no question about it.
PHOTOGRAPHS = ("erase", "explore_world_animals", "explore_farm_animals")
_BIRDS = {
    "northern_harrier", "penguin", "swans", "kingfisher", "heron", "toucan", "gosling", "spoonbills", "scarlet_macaw", "chicken", "duck", "owl",
}
_INSECTS = {"caterpillar", "butterfly", "bee"}
_OTHER = {"crab"}


def named(deb: Path) -> list[tuple[str, str, Image.Image]]:
    """(name, kind, picture) of the named photographs, in the order of their names."""
    found = {}
    for part in PHOTOGRAPHS:
        for name, content in rcc.files(deb / f"usr/share/gcompris-qt/rcc/{part}.rcc"):
            stem = Path(name).stem
            large = name.endswith(".webp") and Image.open(io.BytesIO(content)).size[0] >= 700
            if large and stem not in _OTHER and stem not in found:
                kind = "bird" if stem in _BIRDS else "insect" if stem in _INSECTS else "animal"
                found[stem] = (stem.replace("_", " "), kind, Image.open(io.BytesIO(content)).convert("RGB"))
    return [found[stem] for stem in sorted(found)]


def square(picture: Image.Image, side: int) -> Image.Image:
    """The middle of a picture as a square."""
    part = min(picture.size)
    left, top = (picture.width - part) / 2, (picture.height - part) / 2
    return picture.resize((side, side), Image.BICUBIC, (left, top, left + part, top + part))


def compositions(debs: Path, count: int, side: int, seed: int = 5) -> list[tuple[Image.Image, np.ndarray]]:
    """Cut-outs on photographs, neither of them met in training, with masks [side, side]."""
    rng = random.Random(seed)
    _, things = pictures.split(pictures.cut_outs(packages.debian(packages.DEBIAN[0], debs)), 5)
    _, places = pictures.split(pictures.photographs(packages.debian(packages.DEBIAN[1], debs)), 4)
    grounds = load_grounds(places)
    return [pictures.paste(thing, rng.choice(grounds), side, rng) for thing in rng.sample(things, count)]


_WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were when we there can"
    " an your which their said if do will each about how up out them then she many some so these would other into has more her two like him"
    " see time could no make than first been its who now people my made over did down only way find use may water long little very after"
).split()


def page(side: int, seed: int) -> Image.Image:
    """A page of words in one of three sizes, dark on light, with a margin, a heading and paragraphs."""
    rng = random.Random(seed)
    light, dark = rng.randint(235, 255), rng.randint(0, 40)
    sheet = Image.new("RGB", (side, side), (light,) * 3)
    draw, size = ImageDraw.Draw(sheet), rng.choice((11, 14, 18))
    margin, top = side // 14, side // 14
    for paragraph in range(40):
        font = ImageFont.load_default(size + 6 if paragraph == 0 else size)
        wanted, line = rng.randint(3, 5) if paragraph == 0 else rng.randint(12, 45), ""
        for word in [*(rng.choice(_WORDS) for _ in range(wanted)), None]:
            if word is None or draw.textlength(f"{line} {word}", font) > side - 2 * margin:
                draw.text((margin, top), line, (dark,) * 3, font)
                line, top = word or "", top + font.size * 1.35
            else:
                line = f"{line} {word}".strip()
        top += size * 0.6
        if top > side - margin - size:
            break
    return sheet
