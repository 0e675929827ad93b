"""Rotary positions of the language model, as llama.cpp stores them.

Its graphs of llama and qwen2 know linear and YaRN scaling by keys. They divide each frequency by a row of `rope_freqs`,
which is how Llama 3.1's scaling is stored.
"""

import math

import gguf
import numpy as np

from .output import VECTOR, Output
from .problem import Problem

_SCALED = {"linear": gguf.RopeScalingType.LINEAR, "yarn": gguf.RopeScalingType.YARN}
# Values that llama.cpp's graphs compute with, whatever a file says.
_YARN = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True}


def write_rope(writer: gguf.GGUFWriter, rope: dict, context: int) -> None:
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    kind = check_rope(rope)
    if kind not in _SCALED:
        return
    factor = float(rope["factor"])
    writer.add_rope_scaling_type(_SCALED[kind])
    writer.add_rope_scaling_factor(factor)
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(rope.get("original_max_position_embeddings") or context))
        share = _attention_factor(rope, factor) / _magnitude(factor, 1.0)
        if not math.isclose(share, 1.0, rel_tol=1e-6):
            # llama.cpp multiplies with the usual magnitude; the key holds what is to be multiplied besides.
            writer.add_rope_scaling_attn_factors(share)


def check_rope(rope: dict) -> str:
    """The type of scaling; raises Problem for one that llama.cpp computes otherwise."""
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3", "mrope", *_SCALED):
        raise Problem(f"rotary positions of type {kind} are not supported; default, linear, yarn and llama3 are")
    share = rope.get("partial_rotary_factor")
    if share not in (None, 1, 1.0):
        raise Problem(f"partial_rotary_factor {share} is not supported: the whole head has to rotate")
    if kind == "yarn":
        for key, value in _YARN.items():
            if rope.get(key) not in (None, value):
                raise Problem(f"yarn's {key} is {rope[key]}; llama.cpp computes with {value} whatever a file says")
    if kind in (*_SCALED, "llama3") and not float(rope.get("factor") or 0) > 0:
        raise Problem(f"rotary positions of type {kind} have the factor {rope.get('factor')}; a number above 0 is needed")
    return kind


def _magnitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1.0 else 0.1 * scale * math.log(factor) + 1.0


def _attention_factor(rope: dict, factor: float) -> float:
    """As transformers' `_compute_yarn_parameters`."""
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return _magnitude(factor, float(rope["mscale"])) / _magnitude(factor, float(rope["mscale_all_dim"]))
    return _magnitude(factor, 1.0)


def frequency_divisors(rope: dict, head_size: int) -> list[Output]:
    """`rope_freqs`, [head_size / 2], for Llama 3.1's scaling; nothing for the other types.

    As transformers' `_compute_llama3_parameters`: wavelengths above the original context are stretched by `factor`,
    those below a share of it stay, between the two the frequencies are interpolated.
    """
    if check_rope(rope) != "llama3":
        return []
    try:
        factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        context = float(rope["original_max_position_embeddings"])
    except KeyError as error:
        raise Problem(f"rotary positions of type llama3 have no {error.args[0]}") from None
    base = float(rope.get("rope_theta", 10000.0))
    divisors = []
    for i in range(0, head_size, 2):
        wavelength = 2 * math.pi * base ** (i / head_size)
        if wavelength < context / high:
            divisors.append(1.0)
        elif wavelength > context / low:
            divisors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    values = np.array(divisors, np.float32)
    return [Output("rope_freqs.weight", values.shape, VECTOR, lambda start, stop: values[start:stop])]
