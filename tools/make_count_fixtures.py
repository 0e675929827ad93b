#!/usr/bin/env python3
"""Writes tests/fixtures/counts.json: the tokens that transformers' processors give pictures of sixty sizes, in the numbers
that each family was released with. It also has the pixels of the views for three pictures, and the sizes of frames.

    pip install -r tools/requirements-reference.txt pillow==13.0.0 torchvision && tools/make_count_fixtures.py

Marks and breaks between lines do not count. Pixels are those of the processors on Pillow, to the bit of which the engine
resizes, before they are normalised.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.pixtral.image_processing_pixtral import get_resize_output_image_size
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize
from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor

from family_inputs import picture
from make_family_fixtures import _rows_first

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "counts.json"
SIDES = [24, 56, 97, 224, 333, 448, 500, 640, 719, 800, 896, 1000, 1024, 1280, 1333, 1600, 1920, 2000, 2560, 3024]
# Every side thrice: with one of its neighbours, turned round, and with one that is far.
SIZES = [
    size
    for i, side in enumerate(SIDES)
    for size in ((side, SIDES[(i + 3) % 20]), (SIDES[(i + 7) % 20], side), (side, SIDES[(3 * i + 11) % 20]))
]
SHAPES = [(300, 700), (41, 30), (640, 480)]
VIDEOS = [(4, 640, 480), (5, 1920, 1080), (32, 1280, 720), (64, 1920, 1080), (768, 640, 360), (8, 20, 30), (3, 64, 48)]
PLAIN = {"do_normalize": False, "do_rescale": False}
QWEN2_5 = {"patch_size": 14, "size": {"shortest_edge": 3136, "longest_edge": 12845056}}
QWEN3 = {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}}
INTERNVL = {"size": {"height": 448, "width": 448}, "crop_to_patches": True, "min_patches": 1, "max_patches": 12}


def qwen(config: dict):
    processor = Qwen2VLImageProcessorPil(**config)
    return lambda width, height: processor.get_number_of_image_patches(height, width) // 4


def internvl(width: int, height: int) -> int:
    return 256 * GotOcr2ImageProcessorPil(**INTERNVL).get_number_of_image_patches(height, width)


def idefics3(longest: int, tile: int, tokens: int):
    processor = SmolVLMImageProcessor(size={"longest_edge": longest}, max_image_size={"longest_edge": tile})
    return lambda width, height: tokens * processor.get_number_of_image_patches(height, width)[0]


def pixtral(longest: int, unit: int):
    def tokens(width: int, height: int) -> int:
        down, across = get_resize_output_image_size(torch.empty(3, height, width), longest, unit)
        return (down // unit) * (across // unit)

    return tokens


FAMILIES = {
    "qwen2.5-vl": qwen(QWEN2_5),
    "qwen3-vl": qwen(QWEN3),
    "internvl3": internvl,
    "gemma3": lambda width, height: 256,
    "smolvlm2": idefics3(1536, 384, 81),
    "idefics3": idefics3(1456, 364, 169),
    "pixtral": pixtral(1024, 16),
    "mistral-small": pixtral(1540, 28),
}


def views(name: str, pixels: np.ndarray) -> list[np.ndarray]:
    """What the encoder sees of a picture, u8 [height, width, 3] each, in the order of their tokens."""
    image = Image.fromarray(pixels)
    if name == "internvl3":
        out = GotOcr2ImageProcessorPil(**INTERNVL, **PLAIN)(image)["pixel_values"]
    elif name == "gemma3":
        out = Gemma3ImageProcessorPil(size={"height": 896, "width": 896}, **PLAIN)(image)["pixel_values"]
    elif name == "pixtral":
        out = PixtralImageProcessorPil(size={"longest_edge": 1024}, patch_size=16, **PLAIN)(image)["pixel_values"]
    else:
        processor = Qwen2VLImageProcessorPil(**QWEN3, **PLAIN)
        made = processor(image)
        t, h, w = np.asarray(made["image_grid_thw"])[0]
        p = processor.patch_size
        block = np.asarray(made["pixel_values"]).reshape(t, h // 2, w // 2, 2, 2, 3, 2, p, p)
        out = block.transpose(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(2 * t, 3, h * p, w * p)[:1]
    return [np.asarray(view).transpose(1, 2, 0).round().clip(0, 255).astype(np.uint8) for view in out]


def shown(name: str, width: int, height: int) -> dict:
    made = views(name, picture(width, height, 2))
    return {
        "family": name,
        "picture": [width, height],
        "sizes": [[view.shape[1], view.shape[0]] for view in made],
        "sha256": hashlib.sha256(b"".join(view.tobytes() for view in made)).hexdigest(),
    }


def frames(count: int, width: int, height: int) -> dict:
    down, across = smart_resize(count, height, width, factor=32, min_pixels=4096, max_pixels=25165824)
    return {"frames": count, "picture": [width, height], "size": [across, down]}


def main() -> None:
    assert len(SIZES) == 60
    Image.Image.resize = _rows_first(Image.Image.resize)
    tokens = {name: [int(count(*size)) for size in SIZES] for name, count in FAMILIES.items()}
    index = {
        "made_by": "tools/make_count_fixtures.py",
        "sizes": SIZES,
        "tokens": tokens,
        "views": [shown(name, *size) for name in ("internvl3", "gemma3", "pixtral", "qwen3-vl") for size in SHAPES],
        "frames": [frames(*video) for video in VIDEOS],
    }
    text = json.dumps(index, separators=(",", ":"))
    for key in ('"tokens":', '"views":', '"frames":[{', '{"family"', '"qwen', '"internvl3":', '"smolvlm2":', '"idefics3":', '"pixtral":', '"mistral-small":', '"gemma3":'):
        text = text.replace(key, f"\n{key}")
    OUT.write_text(text + "\n")


if __name__ == "__main__":
    main()
