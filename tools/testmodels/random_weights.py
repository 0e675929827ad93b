"""Random tensors that are the same bits on every machine.

The Philox counter generator is defined by integers alone. Every step from its output to a weight is
an integer operation or one correctly rounded floating-point operation. A normal sampler would go
through the platform's `log` and `exp`, which differ in the last bit between C libraries.
"""

import hashlib

import numpy as np

# Sum of four uniform 16-bit integers: mean 2 * 65535, variance 4 * (2^32 - 1) / 12.
_MEAN = 2 * 65535
_INV_STD = np.float32(1.0 / np.sqrt((2.0**32 - 1) / 3.0))


def _generator(seed: int, name: str) -> np.random.Philox:
    # Keyed by name, so a tensor keeps its values when others are added or reordered.
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8"))


def raw_bytes(seed: int, name: str, count: int) -> np.ndarray:
    """`count` uniform bytes, shape [count], uint8."""
    words = _generator(seed, name).random_raw((count + 7) // 8)
    return words.astype("<u8").view(np.uint8)[:count]


def bell(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Zero mean, unit variance, bell-shaped (Irwin-Hall of four), f32."""
    count = int(np.prod(shape))
    parts = raw_bytes(seed, name, 8 * count).view("<u2").reshape(count, 4)
    total = parts.sum(axis=1, dtype=np.int32) - _MEAN
    return (total.astype(np.float32) * _INV_STD).reshape(shape)
