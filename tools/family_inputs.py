"""Pictures and questions of the family fixtures, from integers alone: the tests make the same ones."""

import numpy as np

# (name, pictures as (width, height), frames): a video is frames of the one size given.
SINGLES = [
    ("square", [(100, 100)], 0),
    ("wide", [(150, 50)], 0),
    ("tall", [(40, 160)], 0),
    ("tiny", [(20, 20)], 0),
    ("large", [(600, 500)], 0),
]
TWO = ("two", [(100, 80), (60, 90)], 0)
THREE = ("three", [(100, 80), (60, 90), (56, 56)], 0)
# Frames of sizes that are not resized: videos have no processor on Pillow.
FRAMES = ("video", [(56, 56)], 8)
PAIRS = ("video", [(64, 48)], 8)
CASES = {
    "llava_onevision": [*SINGLES, TWO, THREE, FRAMES],
    "llava_next": [*SINGLES, TWO, THREE],
    "llava_next_mistral": [SINGLES[1]],
    "llava": [*SINGLES, TWO, THREE],
    "llava_llama3": [SINGLES[1], SINGLES[4]],
    "qwen2_vl": [*SINGLES, TWO, THREE, PAIRS],
}
_WORDS = "what is in the image how many shapes are there a red circle on left colour square blue large".split()


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """Slanted waves with sharp texture on them, u8 [height, width, 3]."""
    y, x, c = np.ogrid[:height, :width, :3]
    wave = (x * 5 + y * 3 + c * 37 + seed * 29) % 256
    wave = np.minimum(wave, 255 - wave) * 2
    texture = ((x * x + 3 * y * y + x * y * (c + 1) + seed * 11) >> 4) & 63
    return np.minimum(wave * 3 // 4 + texture, 255).astype(np.uint8)


def question(seed: int) -> str:
    """Eight words, chosen by a linear congruence."""
    words = []
    for _ in range(8):
        seed = (seed * 1103515245 + 12345) % (1 << 31)
        words.append(_WORDS[(seed >> 8) % len(_WORDS)])
    return " ".join(words)
