"""Pictures in a format that needs no library."""

import random
from pathlib import Path


def noise(path: Path, seed: int, width: int, height: int) -> Path:
    """A BMP of `width` x `height` pixels whose rows are whole words."""
    if width % 4:
        raise ValueError(f"{width} pixels across: a row of a BMP is padded to four bytes, which this does not do")
    pixels = random.Random(seed).randbytes(width * height * 3)
    header = b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + width.to_bytes(4, "little") + height.to_bytes(4, "little")
    header += (1).to_bytes(2, "little") + (24).to_bytes(2, "little")
    path.write_bytes(header + bytes(24) + pixels)
    return path
