"""Shapes of the tiny checkpoints, one per model family.

An odd grid (7 x 7) like SigLIP's 27 x 27, so that pooling by two meets an edge; an MLP of SigLIP that is no
multiple of 32, as 4304 is none; grouped queries if the released model has them; more rows in the token table than
the tokenizer has tokens.
"""

from dataclasses import dataclass

from testmodels.shapes import Decoder, Tower

IMAGE = 56
_NEXT = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]
_ONEVISION = [[a, b] for a in range(1, 7) for b in range(1, 7)]


@dataclass(frozen=True)
class Family:
    """One tiny model. `pinpoints` are in pixels, (height, width) as -hf configurations have them."""

    name: str
    tower: Tower
    decoder: Decoder
    text: str  # "qwen2", "llama" or "mistral"
    seed: int
    pinpoints: list[list[int]] | None = None
    rope: dict | None = None  # as `rope_scaling` of a configuration
    tokenizer: str = ""  # "llama3", or the text model's usual one

    @property
    def model(self) -> str:
        """The model type, which several text models share."""
        return self.name.removesuffix("_mistral").removesuffix("_llama3")


def _pixels(grid: list[list[int]]) -> list[list[int]]:
    return [[side * IMAGE for side in pair] for pair in grid]


def _clip() -> Tower:
    # The features are those before the last block, which is stored all the same.
    return Tower("clip", IMAGE, 8, 64, 4, 11, 160, 1e-5, 64, 64)


def _siglip() -> Tower:
    # As released for LLaVA-OneVision: the block that would not be used is cut off.
    return Tower("siglip", IMAGE, 8, 64, 4, 10, 152, 1e-6, 64, 64)


FAMILIES = {
    "llava_onevision": Family(
        "llava_onevision",
        _siglip(),
        Decoder("qwen2", 64, 10, 4, 2, 160, 512, 4096, 1e6, 1e-6, tied=False),
        "qwen2",
        seed=11,
        pinpoints=_pixels(_ONEVISION),
    ),
    "llava_next": Family(
        "llava_next",
        _clip(),
        Decoder("llama", 64, 10, 4, 4, 160, 512, 4096, 1e4, 1e-5, tied=False),
        "llama",
        seed=12,
        pinpoints=_pixels(_NEXT),
    ),
    "llava_next_mistral": Family(
        "llava_next_mistral",
        _clip(),
        Decoder("llama", 64, 10, 4, 2, 160, 512, 4096, 1e6, 1e-5, tied=False),
        "mistral",
        seed=13,
        pinpoints=_pixels(_NEXT),
    ),
    "llava": Family(
        "llava",
        _clip(),
        Decoder("llama", 64, 10, 4, 4, 160, 512, 4096, 1e4, 1e-5, tied=False),
        "llama",
        seed=14,
    ),
    # As JoyCaption: LLaVA with SigLIP on Llama 3.1. Its wavelengths are 6 to 19,869: three lie below 64 and stay,
    # one lies between, four lie above 256 and are stretched.
    "llava_llama3": Family(
        "llava_llama3",
        Tower("siglip", IMAGE, 8, 64, 4, 11, 152, 1e-6, 64, 64),
        Decoder("llama", 64, 10, 4, 2, 160, 512, 4096, 1e4, 1e-5, tied=False),
        "llama",
        seed=16,
        rope={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 256},
        tokenizer="llama3",
    ),
    "qwen2_vl": Family(
        "qwen2_vl",
        Tower("qwen2vl", 560, 8, 64, 4, 9, 128, 1e-6, 256, 128),
        Decoder("qwen2vl", 128, 10, 4, 2, 160, 512, 4096, 1e6, 1e-6, False, (4, 6, 6, 0)),
        "qwen2",
        seed=15,
    ),
}
