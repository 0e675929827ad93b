"""The processors' configurations of the transformers layout: which files they are in, and what of them can be done.

A number that changes what the tower sees is used, or the conversion stops.
"""

import math

from .checkpoint import Checkpoint
from .problem import Problem

# transformers 5 saves all processors of a model in one file.
_TOGETHER = "processor_config.json"
FILTERS = {2: "bilinear", 3: "bicubic"}


def image_processor(checkpoint: Checkpoint) -> dict:
    """The configuration of the image processor. Raises Problem without one, or for steps that are not done here."""
    found = checkpoint.json(_TOGETHER).get("image_processor") or checkpoint.json("preprocessor_config.json")
    if not found:
        raise Problem(f"{checkpoint.folder} has no preprocessor_config.json, which says how pictures are resized and "
                      "normalised; download it")
    _check_steps(str(checkpoint.folder), found)
    return found


def video_processor(checkpoint: Checkpoint) -> dict:
    """The configuration of the video processor; empty if the model was released without one."""
    return checkpoint.json(_TOGETHER).get("video_processor") or checkpoint.json("video_preprocessor_config.json")


def _check_steps(where: str, processor: dict) -> None:
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if processor.get(step, True) is False:
            raise Problem(f"{where}: the image processor has {step} false, which is not supported")
    factor = processor.get("rescale_factor", 1 / 255)
    if not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise Problem(f"{where}: the image processor has rescale_factor {factor}; 1/255 is supported")
    resample = processor.get("resample", 3)
    if resample not in FILTERS:
        known = ", ".join(f"{number} ({name})" for number, name in FILTERS.items())
        raise Problem(f"{where}: the image processor has resample {resample}, which is not supported; {known} are")
    for key in ("image_mean", "image_std"):
        values = processor.get(key)
        if not isinstance(values, list) or len(values) != 3:
            raise Problem(f"{where}: the image processor has no {key} of three numbers")


def check_size(processor: dict, side: int) -> None:
    """Raises Problem if pictures are not made as large as the tower takes them."""
    size = processor.get("size")
    cropped = processor.get("crop_size") if processor.get("do_center_crop") else None
    for key, value in (("size", size), ("crop_size", cropped)):
        sides = set(value.values()) if isinstance(value, dict) else {value} if isinstance(value, int) else set()
        if sides and sides != {side}:
            raise Problem(f"the image processor has {key} {value}, the image encoder takes {side} x {side} pixels")


def normalisation(processor: dict) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the three colours."""
    return [float(x) for x in processor["image_mean"]], [float(x) for x in processor["image_std"]]
