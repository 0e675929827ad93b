#!/usr/bin/env python3
"""Writes tests/fixtures/pictures.json: small picture files with the pixels that Pillow and transformers make of them.
It also has the sizes and pixels that Qwen2-VL's own processor makes of pictures of three shapes.

    pip install -r tools/requirements-reference.txt pillow==13.0.0 && tools/make_picture_fixtures.py
"""

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from family_inputs import picture
from PIL import Image
from transformers.image_transforms import convert_to_rgb
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "pictures.json"
SIZE = (24, 20)
SHAPES = [(120, 600), (20, 30), (2000, 1500)]
# As published, and as the test pair has it.
PATCHES, GROUP = [14, 8], 2


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def alpha() -> np.ndarray:
    """From clear on the left to opaque on the right."""
    return np.broadcast_to(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], SIZE[0]))


def files() -> dict[str, tuple[bytes, int]]:
    """File and the levels that two decoders may differ by."""
    colour = Image.fromarray(picture(*SIZE, 1))
    grey = colour.convert("L")
    rgba = Image.fromarray(np.dstack([np.asarray(colour), alpha()]), "RGBA")
    la = Image.fromarray(np.dstack([np.asarray(grey), alpha()]), "LA")
    palette = colour.quantize(16)
    near = 8
    return {
        "baseline.jpg": (saved(colour, "JPEG", subsampling=0), near),
        "subsampled.jpg": (saved(colour, "JPEG", subsampling=2), 24),
        "restarts.jpg": (saved(colour, "JPEG", subsampling=0, restart_marker_blocks=2), near),
        "progressive.jpg": (saved(colour, "JPEG", subsampling=0, progressive=True), near),
        "progressive-restarts.jpg": (
            saved(colour, "JPEG", subsampling=0, progressive=True, restart_marker_rows=1),
            near,
        ),
        "progressive-subsampled.jpg": (saved(colour, "JPEG", subsampling=2, progressive=True, quality=90), 24),
        "grey.jpg": (saved(grey, "JPEG"), near),
        "grey-progressive.jpg": (saved(grey, "JPEG", progressive=True), near),
        "cmyk.jpg": (saved(colour.convert("CMYK"), "JPEG"), near),
        "colour.png": (saved(colour, "PNG"), 0),
        "rgba.png": (saved(rgba, "PNG"), 0),
        "la.png": (saved(la, "PNG"), 0),
        "palette.png": (saved(palette, "PNG", transparency=bytes(range(0, 256, 17))), 0),
        "grey-key.png": (saved(grey, "PNG", transparency=int(np.asarray(grey)[3, 3])), 0),
        "colour-key.png": (saved(colour, "PNG", transparency=tuple(int(v) for v in np.asarray(colour)[3, 3])), 0),
        "palette.gif": (saved(palette, "GIF", transparency=3), 0),
        "two.gif": (saved(palette, "GIF", save_all=True, append_images=[colour.rotate(180).quantize(16)]), 0),
        "lossless.webp": (saved(rgba, "WEBP", lossless=True, exact=True), 0),
        "lossy.webp": (saved(colour, "WEBP", quality=80), 24),
        "lossy-alpha.webp": (saved(rgba, "WEBP", quality=80), 24),
        "two.webp": (saved(colour, "WEBP", lossless=True, save_all=True, append_images=[colour.rotate(180)]), 0),
        "rgba.tif": (saved(rgba, "TIFF"), 0),
        "lzw.tif": (saved(colour, "TIFF", compression="tiff_lzw"), 0),
        "deflate.tif": (saved(colour, "TIFF", compression="tiff_adobe_deflate"), 0),
        "packbits.tif": (saved(colour, "TIFF", compression="packbits"), 0),
        "zstd.tif": (saved(colour, "TIFF", compression="zstd"), 0),
        "fax.tif": (saved(colour.convert("1"), "TIFF", compression="group4"), 0),
        "cmyk.tif": (saved(colour.convert("CMYK"), "TIFF"), 0),
        "jpeg.tif": (saved(colour, "TIFF", compression="jpeg"), 24),
        "rgb.bmp": (saved(colour, "BMP"), 0),
        "palette.bmp": (saved(palette, "BMP"), 0),
        "rgb.ppm": (saved(colour, "PPM"), 0),
        "rgba.ico": (saved(rgba.resize((32, 32)), "ICO", sizes=[(16, 16), (32, 32)]), 0),
        "bmp.ico": (saved(rgba.resize((32, 32)), "ICO", sizes=[(32, 32)], bitmap_format="bmp"), 0),
    }


def decoded(name: str, file: bytes, near: int) -> dict:
    image = Image.open(io.BytesIO(file))
    image.load()
    rgb = convert_to_rgb(image, return_numpy=True)
    transparent = "A" in image.getbands() or image.info.get("transparency") is not None
    return {
        "name": name,
        "file": base64_of(file),
        "size": list(image.size),
        "near": near,
        "transparent": transparent,
        "rgb": base64_of(rgb.tobytes()),
    }


def processed(width: int, height: int, patch: int) -> dict:
    """The picture that the processor cuts into patches, put together again."""
    bounds = {"shortest_edge": 56 * 56, "longest_edge": 16384 * 28 * 28}
    processor = Qwen2VLImageProcessorPil(patch_size=patch, size=bounds)
    image = Image.fromarray(picture(width, height, 2))
    out = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
    _, down, across = (int(n) for n in out["image_grid_thw"][0])
    patches = np.asarray(out["pixel_values"]).reshape(
        down // GROUP, across // GROUP, GROUP, GROUP, 3, -1, patch, patch
    )
    # Axes: group row, group column, row and column in it, channel, frame, y, x.
    pixels = patches[:, :, :, :, :, 0].transpose(0, 2, 5, 1, 3, 6, 4).reshape(down * patch, across * patch, 3)
    pixels = np.ascontiguousarray(pixels.astype(np.uint8))
    return {
        "patch": patch,
        "picture": [width, height],
        "size": [across * patch, down * patch],
        "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
    }


def main() -> None:
    fixtures = {
        "files": [decoded(name, *file) for name, file in files().items()],
        "qwen2vl": [processed(*shape, patch) for patch in PATCHES for shape in SHAPES],
    }
    OUT.write_text(json.dumps(fixtures, indent=1) + "\n")


if __name__ == "__main__":
    main()
