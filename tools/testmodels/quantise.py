"""Weights to GGML block types, and random blocks for files whose values do not matter."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES

from .random_weights import raw_bytes

K_BLOCK = 256


def row_fits(width: int, kind: Type) -> bool:
    """Whether rows of `width` values can be stored as `kind`."""
    return width % GGML_QUANT_SIZES[kind][0] == 0


def byte_shape(shape: tuple[int, ...], kind: Type) -> tuple[int, ...]:
    """Shape in bytes of a tensor of `shape` values stored as `kind`."""
    return gguf.quants.quant_shape_to_byte_shape(shape, kind)


def quantise(values: np.ndarray, kind: Type) -> np.ndarray:
    """f32 values to the stored form of `kind`; rows are the last axis."""
    if kind == Type.Q4_K:
        return _q4_k(values)
    if kind == Type.Q6_K:
        return _q6_k(values)
    return gguf.quants.quantize(values, kind)


def _pack_scales(scale: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    """Eight 6-bit scales and eight 6-bit minima per block into Q4_K's 12 bytes.

    Entries 0-3 fill the low six bits of a byte; 4-7 keep their low nibbles in
    the last four bytes and their high two bits on top of entries 0-3.
    """
    low = scale[:, :4] | ((scale[:, 4:] >> 4) << 6)
    high = minimum[:, :4] | ((minimum[:, 4:] >> 4) << 6)
    rest = (scale[:, 4:] & 15) | ((minimum[:, 4:] & 15) << 4)
    return np.concatenate([low, high, rest], axis=1).astype(np.uint8)


def _half_bytes(values: np.ndarray) -> np.ndarray:
    return values.astype("<f2").view(np.uint8).reshape(len(values), 2)


def _safe_inverse(values: np.ndarray) -> np.ndarray:
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=values != 0)


def _q4_k(values: np.ndarray) -> np.ndarray:
    """Q4_K by rounding to the range of each group of 32 (no search for better scales)."""
    groups = values.astype(np.float32).reshape(-1, 8, 32)
    low = np.minimum(groups.min(axis=2), np.float32(0))
    step = (groups.max(axis=2) - low) / np.float32(15)
    d = (step.max(axis=1) / np.float32(63)).astype(np.float16).astype(np.float32)
    dmin = ((-low).max(axis=1) / np.float32(63)).astype(np.float16).astype(np.float32)
    scale = np.rint(step * _safe_inverse(d)[:, None]).clip(0, 63).astype(np.uint8)
    minimum = np.rint(-low * _safe_inverse(dmin)[:, None]).clip(0, 63).astype(np.uint8)
    real_step = d[:, None] * scale
    offset = dmin[:, None] * minimum
    codes = np.rint((groups + offset[:, :, None]) * _safe_inverse(real_step)[:, :, None])
    codes = codes.clip(0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    nibbles = (codes[:, :, 0] | (codes[:, :, 1] << 4)).reshape(-1, 128)
    blocks = np.concatenate(
        [_half_bytes(d), _half_bytes(dmin), _pack_scales(scale, minimum), nibbles], axis=1
    )
    return blocks.reshape(byte_shape(values.shape, Type.Q4_K))


def _q6_k(values: np.ndarray) -> np.ndarray:
    """Q6_K by rounding to the largest magnitude of each group of 16."""
    groups = values.astype(np.float32).reshape(-1, 16, 16)
    step = np.abs(groups).max(axis=2) / np.float32(31)
    d = (step.max(axis=1) / np.float32(127)).astype(np.float16).astype(np.float32)
    scale = np.rint(step * _safe_inverse(d)[:, None]).clip(0, 127).astype(np.int8)
    inverse = _safe_inverse(d[:, None] * scale.astype(np.float32))
    codes = (np.rint(groups * inverse[:, :, None]).clip(-32, 31) + 32).astype(np.uint8)
    # Halves of 128 values; four runs of 32 share a low-nibble pair and one byte of high bits.
    runs = codes.reshape(-1, 2, 4, 32)
    low = np.concatenate(
        [(runs[:, :, i] & 15) | ((runs[:, :, i + 2] & 15) << 4) for i in (0, 1)], axis=2
    )
    high = sum((runs[:, :, i] >> 4) << (2 * i) for i in range(4))
    blocks = np.concatenate(
        [
            low.reshape(-1, 128),
            high.astype(np.uint8).reshape(-1, 64),
            scale.view(np.uint8),
            _half_bytes(d),
        ],
        axis=1,
    )
    return blocks.reshape(byte_shape(values.shape, Type.Q6_K))


def random_blocks(seed: int, name: str, shape: tuple[int, ...], kind: Type, std: float) -> np.ndarray:
    """A tensor of random quantised blocks with about zero mean and the given spread.

    Only the codes are random; the block scales are constant. Speed depends on
    types and shapes, not on values, and this writes gigabytes in seconds.
    """
    block, size = GGML_QUANT_SIZES[kind]
    count = int(np.prod(shape)) // block
    data = raw_bytes(seed, name, count * size).reshape(count, size).copy()

    def half(at: int, value: float) -> None:
        data[:, at : at + 2] = np.array([value], dtype="<f2").view(np.uint8)

    if kind == Type.Q8_0:  # codes -128..127
        half(0, std / 73.9)
    elif kind == Type.Q4_0:  # codes -8..7
        half(0, std / 4.61)
    elif kind == Type.Q5_0:  # codes -16..15
        half(0, std / 9.23)
    elif kind == Type.Q4_K:  # codes 0..15, scale 32; the minimum centres them
        d = np.float16(std / (4.61 * 32))
        half(0, d)
        half(2, float(d) * 7.5)
        entries = np.full((1, 8), 32, dtype=np.uint8)
        data[:, 4:16] = _pack_scales(entries, entries)
    elif kind == Type.Q2_K:  # codes 0..3, scale 8; the minimum, 12, centres them
        d = std / (1.118 * 8)
        data[:, :16] = 8 | 12 << 4
        half(80, d)
        half(82, d)
    elif kind == Type.Q6_K:  # codes -32..31, scale 64
        data[:, 192:208] = 64
        half(208, std / (18.5 * 64))
    else:
        raise ValueError(f"no random blocks for {kind.name}")
    return data.reshape(byte_shape(shape, kind))


def zero_rows(data: np.ndarray, rows: int, kind: Type) -> None:
    """Makes the last `rows` rows of a Q8_0 or Q4_0 tensor zero by zeroing their scales."""
    size = GGML_QUANT_SIZES[kind][1]
    tail = data[-rows:].reshape(-1, size)
    tail[:, :2] = 0


def zero_columns(data: np.ndarray, columns: int, kind: Type) -> None:
    """Makes the last 16 columns of a Q8_0 or Q4_0 tensor zero by their codes."""
    if columns != 16:
        raise ValueError("the padding of a row has to be half a block")
    blocks = data.reshape(data.shape[0], -1, GGML_QUANT_SIZES[kind][1])
    if kind == Type.Q8_0:
        blocks[:, -1, 18:] = 0
    elif kind == Type.Q4_0:  # the high nibble of byte i is value i + 16; code 8 means zero
        blocks[:, -1, 2:] = (blocks[:, -1, 2:] & 15) | (8 << 4)
    else:
        raise ValueError(f"no zero columns for {kind.name}")
