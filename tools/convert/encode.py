"""File types, and f32 rows to their stored form."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType
from gguf.constants import GGML_QUANT_SIZES

from .output import KERNEL, MATRIX, TABLE, Output
from .problem import Problem

DIRECT = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
# Mixes of types that llama.cpp's quantiser chooses tensor by tensor.
QUANTISED = ("q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_0", "q4_1", "q4_k_s", "q4_k_m", "q5_0", "q5_1",
             "q5_k_s", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs")
# Values converted at a time; a few times as many bytes are in memory.
_CHUNK = 4 << 20


def type_of(output: Output, base: Type) -> Type:
    """The type that `output` is stored with in a file of type `base`."""
    if output.kind == KERNEL:
        # The convolution takes no other types, and F16 does not hold all that BF16 does.
        return Type.F16 if base in (Type.F16, Type.Q8_0) else Type.F32
    if output.kind not in (MATRIX, TABLE):
        return Type.F32
    block, _ = GGML_QUANT_SIZES[base]
    return base if output.shape[-1] % block == 0 else Type.F16


def byte_shape(shape: tuple[int, ...], kind: Type) -> tuple[int, ...]:
    return gguf.quants.quant_shape_to_byte_shape(shape, kind)


def encode(values: np.ndarray, kind: Type, name: str) -> np.ndarray:
    """f32 values, rows last, as bytes of `kind`."""
    if kind == Type.F16:
        with np.errstate(over="ignore"):
            stored = values.astype("<f2")
        if not np.isfinite(stored).all() and np.isfinite(values).all():
            largest = float(np.abs(values).max())
            raise Problem(f"tensor {name} has the value {largest:.3g}, more than F16 holds; choose bf16 or f32")
        return stored
    if kind == Type.F32:
        return values.astype("<f4", copy=False)
    return gguf.quants.quantize(values, kind)


class Streamed:
    """Stands for an array with GGUFWriter, and is written chunk by chunk."""

    def __init__(self, output: Output, kind: Type):
        self.output, self.kind = output, kind
        self.nbytes = int(np.prod(byte_shape(output.shape, kind), dtype=np.int64))

    def tofile(self, file) -> None:
        output = self.output
        width = int(np.prod(output.shape[1:], dtype=np.int64))
        step = max(_CHUNK // max(width, 1) // output.align, 1) * output.align
        for start in range(0, output.shape[0], step):
            values = output.rows(start, min(start + step, output.shape[0]))
            file.write(np.ascontiguousarray(encode(values, self.kind, output.name)).data)
