"""How pictures and videos reach the tower, as metadata: sizes, padding, sampling.

Keys of llama.cpp if it has them; ours begin with `illava.`.
"""

import re
from dataclasses import dataclass, field

import gguf

from .checkpoint import Checkpoint
from .problem import Problem
from .processor import FILTERS, video_processor
from .towers import Tower

_MAX_TILES = re.compile(r"anyres_max_(\d+)$")


@dataclass(frozen=True)
class Pictures:
    """`pinpoints` are pairs (width, height) in pixels; `video` are keys below `illava.video.`."""

    aspect_ratio: str | None = None
    pinpoints: list[tuple[int, int]] = field(default_factory=list)
    merge_type: str = "flat"
    pad_color: list[int] | None = None
    resample: str = "bicubic"
    min_pixels: int | None = None
    max_pixels: int | None = None
    video: dict = field(default_factory=dict)

    def write(self, writer: gguf.GGUFWriter) -> None:
        writer.add_string("clip.vision.mm_patch_merge_type", self.merge_type)
        writer.add_string("illava.vision.resample", self.resample)
        if self.pinpoints:
            writer.add_array("clip.vision.image_grid_pinpoints", [side for pair in self.pinpoints for side in pair])
        if self.aspect_ratio is not None:
            writer.add_string("illava.vision.image_aspect_ratio", self.aspect_ratio)
            if match := _MAX_TILES.match(self.aspect_ratio):
                writer.add_uint32("illava.vision.anyres_max_tiles", int(match[1]))
        if self.pad_color is not None:
            writer.add_array("illava.vision.pad_color", self.pad_color)
        for key, value in (("image_min_pixels", self.min_pixels), ("image_max_pixels", self.max_pixels)):
            if value is not None:
                writer.add_uint32(f"clip.vision.{key}", value)
        for key, value in self.video.items():
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(f"illava.video.{key}", value)


# The authors' code samples 32 frames, pools each 2 x 2 and puts one newline behind the last.
_ONEVISION_VIDEO = {"frames": 32, "pool_stride": 2, "pool_mode": "bilinear", "newline": "one_token"}
_FRAME_COUNTS = ("num_frames", "frames_upbound", "max_frames_num")


def _onevision_video(told: dict) -> dict:
    """The authors' numbers, with those of a configuration that has its own."""
    video = dict(_ONEVISION_VIDEO)
    counts = [told[name] for name in _FRAME_COUNTS if isinstance(told.get(name), int) and told[name] > 0]
    if counts:
        video["frames"] = counts[0]
    for key, name, kind in (("pool_stride", "mm_spatial_pool_stride", int), ("pool_mode", "mm_spatial_pool_mode", str),
                            ("newline", "mm_newline_position", str)):
        if told.get(name):
            video[key] = kind(told[name])
    return video


def _mean_color(tower: Tower) -> list[int]:
    return [int(x * 255) for x in tower.mean]


def _checked(pinpoints: list[tuple[int, int]], tower: Tower, where: str) -> list[tuple[int, int]]:
    for pair in pinpoints:
        if len(pair) != 2 or any(side <= 0 or side % tower.image for side in pair):
            raise Problem(f"{where}: image_grid_pinpoints has {list(pair)}, not two multiples of {tower.image}")
    return pinpoints


def hf_pictures(family: str, checkpoint: Checkpoint, config, processor: dict, tower: Tower) -> Pictures:
    """From a processor's configuration; a list of pinpoints there is (height, width)."""
    resample = FILTERS[processor.get("resample", 3)]
    if family == "qwen2_vl":
        return _qwen2vl(checkpoint, processor, resample)
    if family == "llava":
        if str(processor.get("image_processor_type", "")).startswith("Siglip"):
            return Pictures("square", resample=resample)
        # The processor of the first re-uploads crops; the authors pad, and trained so.
        return Pictures("pad", pad_color=_mean_color(tower), resample=resample)
    listed = processor.get("image_grid_pinpoints") or config.image_grid_pinpoints
    pinpoints = _checked([(int(w), int(h)) for h, w in listed], tower, str(checkpoint.folder))
    if family == "llava_onevision":
        ratio = checkpoint.json("processor_config.json").get("vision_aspect_ratio", config.vision_aspect_ratio)
        # Only a processor that was saved with a number of frames has it.
        video = _onevision_video(video_processor(checkpoint))
        return Pictures(ratio, pinpoints, "spatial_unpad", [0, 0, 0], resample, video=video)
    return Pictures("anyres", pinpoints, "spatial_unpad", [0, 0, 0], resample)


def _qwen2vl(checkpoint: Checkpoint, processor: dict, resample: str) -> Pictures:
    size = processor.get("size") or {}
    low = processor.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or 56 * 56
    high = processor.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or 28 * 28 * 1280
    # Frames have limits of their own only if a video processor is released with the model.
    video = video_processor(checkpoint)
    edges = video.get("size") or {}
    factor = 2 * int(processor.get("patch_size", 14))
    return Pictures(resample=resample, min_pixels=int(low), max_pixels=int(high), video={
        "fps": float(video.get("fps") or 2.0),
        "min_frames": int(video.get("min_frames") or 4),
        "max_frames": int(video.get("max_frames") or 768),
        "min_pixels": int(video.get("min_pixels") or edges.get("shortest_edge") or 128 * factor**2),
        "max_pixels": int(video.get("max_pixels") or edges.get("longest_edge") or 768 * factor**2),
        "total_pixels": int(0.9 * int(video.get("max_video_tokens") or 128_000) * factor**2),
    })


def original_pictures(family: str, checkpoint: Checkpoint, tower: Tower) -> Pictures:
    """From the authors' configuration; a list of pinpoints there is (width, height)."""
    config, where = checkpoint.config, str(checkpoint.folder)
    ratio = config.get("image_aspect_ratio") or "square"
    video = _onevision_video(config) if family == "llava_onevision" else {}
    if not ratio.startswith("anyres"):
        if ratio not in ("pad", "square"):
            raise Problem(f"{where}: image_aspect_ratio {ratio} is not supported; pad, anyres and anyres_max_N are")
        return Pictures(ratio, pad_color=_mean_color(tower) if ratio == "pad" else None, video=video)
    listed = config.get("image_grid_pinpoints")
    if isinstance(listed, str):
        listed = _written(listed, tower.image, where)
    if not listed:
        raise Problem(f"{where}: image_aspect_ratio is {ratio}, but there are no image_grid_pinpoints")
    pinpoints = _checked([tuple(int(side) for side in pair) for pair in listed], tower, where)
    merge = str(config.get("mm_patch_merge_type") or "flat")
    # The authors write spatial_unpad, or more behind it: unpadding is what it asks for.
    merge = "spatial_unpad" if merge.startswith("spatial") and "unpad" in merge else merge
    if merge not in ("flat", "spatial_unpad"):
        raise Problem(f"{where}: mm_patch_merge_type {merge} is not supported; flat and spatial_unpad are")
    return Pictures(ratio, pinpoints, merge, [0, 0, 0], video=video)


def _written(text: str, side: int, where: str) -> list[tuple[int, int]]:
    """`(1x1),...,(6x6)` in tiles, every pair between the two; or a list written out in pixels."""
    tiles = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)x(\d+)\)", text)]
    if "..." in text and len(tiles) == 2:
        (a0, b0), (a1, b1) = tiles
        tiles = [(a, b) for a in range(a0, a1 + 1) for b in range(b0, b1 + 1)]
    if tiles:
        return [(a * side, b * side) for a, b in tiles]
    pairs = re.findall(r"[\[(]\s*(\d+)\s*,\s*(\d+)\s*[\])]", text)
    if not pairs:
        raise Problem(f"{where}: image_grid_pinpoints {text!r} is no list of sizes")
    return [(int(a), int(b)) for a, b in pairs]
