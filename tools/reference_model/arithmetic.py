"""The operations of both halves, with the rounding of one of three computations.

`exact` is float64 throughout. `single` rounds what llama.cpp rounds to f16 even for F32 weights and caches: the
patch convolution takes pixels and kernel as f16, and on a CPU GELU is a table indexed by an f16 and holding f16
values. `half` rounds all that a run with F16 weights and flash attention rounds: also the operand beside a
matrix, keys and values. It tells how far rounding can move a score, which is what the gaps of a fixture are
measured against.
"""

from math import sqrt

import torch

EXACT, SINGLE, HALF = "exact", "single", "half"


def to_half(x: torch.Tensor) -> torch.Tensor:
    return x.half().double()


class Arithmetic:
    def __init__(self, rounding: str = EXACT):
        if rounding not in (EXACT, SINGLE, HALF):
            raise ValueError(f"no rounding called {rounding!r}")
        self.half = rounding == HALF
        self.single = rounding != EXACT

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        return to_half(x) if self.half else x

    def narrowed(self, x: torch.Tensor) -> torch.Tensor:
        return to_half(x) if self.single else x

    def linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None):
        y = self.rounded(x) @ self.rounded(weight).T
        return y if bias is None else y + bias

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """The tanh approximation, which is what ggml's GELU is."""
        t = self.narrowed(x)
        y = self.narrowed(0.5 * t * (1 + torch.tanh(sqrt(2 / torch.pi) * (t + 0.044715 * t**3))))
        if not self.single:
            return y
        # The table serves |x| < 10.
        return torch.where(x >= 10, x, torch.where(x <= -10, torch.zeros_like(x), y))

    def exact_gelu(self, x: torch.Tensor) -> torch.Tensor:
        """With the error function; computed, not looked up."""
        return 0.5 * x * (1 + torch.erf(x / sqrt(2)))

    def quick_gelu(self, x: torch.Tensor) -> torch.Tensor:
        t = self.narrowed(x)
        return self.narrowed(t * torch.sigmoid(1.702 * t))

    def convolve(self, patches: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        """Flattened patches [N, values] by kernels [width, values]."""
        return self.narrowed(patches) @ self.narrowed(kernel).T

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible=None, counts=None):
        """Softmax attention. q [H, Q, d], k and v [H, K, d]; `visible` [Q, K] is a mask.

        With `counts` [K] a key counts as that many equal ones: y_j = softmax_j(q k_j / sqrt(d) + log counts_j).
        Returns the heads' outputs side by side, [Q, H * d], and the weights [H, Q, K].
        """
        k, v = self.rounded(k), self.rounded(v)
        logits = self.rounded(q) @ k.transpose(1, 2) / sqrt(q.shape[-1])
        if counts is not None:
            logits = logits + torch.log(counts.double())
        if visible is not None:
            logits = logits.masked_fill(~visible, float("-inf"))
        weights = torch.softmax(logits, dim=-1)
        out = (weights @ v).transpose(0, 1).reshape(q.shape[1], -1)
        return out, weights


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) * weight + bias


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float):
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) * weight


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    """[N, count * d] to [count, N, d]."""
    return x.reshape(len(x), count, -1).transpose(0, 1)


def rotate(x: torch.Tensor, angles: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """Rotates pairs of x [H, N, d] by `angles` [N, d / 2].

    Pairs are (2i, 2i + 1) when interleaved, else (i, i + d / 2).
    """
    half = x.shape[-1] // 2
    cos, sin = torch.cos(angles), torch.sin(angles)
    if interleaved:
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def frequencies(count: int, base: float) -> torch.Tensor:
    """base^(-i / count) for i = 0 .. count - 1."""
    return base ** (-torch.arange(count, dtype=torch.float64) / count)
