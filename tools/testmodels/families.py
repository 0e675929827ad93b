"""Metadata that tools/convert.py writes into a projector file beside its weights, for towers in true
shapes."""

from dataclasses import replace

from .shapes import Tower
from .tensors import VECTOR, Tensor

FAMILIES = ("llava", "llava_next", "llava_onevision", "qwen2_vl")
_NEXT = [(2, 1), (1, 2), (2, 2), (1, 3), (3, 1)]  # (across, down), transformers' order
_ONEVISION = [(across, down) for down in range(1, 7) for across in range(1, 7)]


def cut_for(family: str, tower: Tower) -> Tower:
    """The tower with the blocks that run: the features are those before its last one."""
    return tower if family == "qwen2_vl" else replace(tower, stored=tower.stored - 1)


def write_keys(writer, family: str, tower: Tower) -> None:
    """Adds the keys to a GGUFWriter; `tower` is the one already cut."""
    writer.add_string("illava.vision.family", family)
    writer.add_string("illava.vision.resample", "bicubic")
    writer.add_string("illava.vision.projector_activation", "gelu")
    if family == "qwen2_vl":
        writer.add_uint32("clip.vision.image_min_pixels", 56 * 56)
        writer.add_uint32("clip.vision.image_max_pixels", 28 * 28 * 16384)
        writer.add_float32("illava.video.fps", 2.0)
        writer.add_uint32("illava.video.min_frames", 4)
        writer.add_uint32("illava.video.max_frames", 768)
        return
    aspect = {"llava": "pad", "llava_next": "anyres", "llava_onevision": "anyres_max_9"}[family]
    writer.add_array("clip.vision.feature_layer", [tower.stored])
    writer.add_string("illava.vision.image_aspect_ratio", aspect)
    if tower.family == "clip":
        writer.add_string("illava.vision.class_token", "first")
    if family == "llava":
        return
    grid = _ONEVISION if family == "llava_onevision" else _NEXT
    writer.add_array("clip.vision.image_grid_pinpoints", [n * tower.image for pair in grid for n in pair])
    writer.add_string("clip.vision.mm_patch_merge_type", "spatial_unpad")
    if family == "llava_onevision":
        writer.add_uint32("illava.vision.anyres_max_tiles", 9)
        writer.add_uint32("illava.video.frames", 32)
        writer.add_uint32("illava.video.pool_stride", 2)


def more_tensors(family: str, tower: Tower) -> list[Tensor]:
    return [] if family in ("llava", "qwen2_vl") else [Tensor("v.image_newline", (tower.output,), VECTOR, 1.0)]
