"""One merge step, written from its definition and sharing nothing with the engine.

Tokens are ordered by (score, index), ascending. M is the first r + 1 of that order, m_0 the least
attended. The merged vector is sum_k (r + 1 - k) X[m_k] / sum_k (r + 1 - k); it replaces X[m_r] in place
and m_0 ... m_{r-1} disappear. Survivors keep their order.
"""

from dataclasses import dataclass, field

import torch


@dataclass
class Step:
    """Result of one step. `kept`, `merged`, `into` and `groups` are original indices.

    By another rule than `merge` nothing is `into`, and `merged` are the tokens that went.
    """

    half: str
    layer: int
    n_in: int
    scores: torch.Tensor
    kept: list[int]
    merged: list[int]
    into: int | None
    residual: torch.Tensor | None = None
    groups: list[list[int]] = field(default_factory=list)
    inputs: object = None

    @property
    def n_out(self) -> int:
        return len(self.kept)


def order(scores: torch.Tensor) -> list[int]:
    """Indices by (score, index), ascending."""
    values = scores.tolist()
    return sorted(range(len(values)), key=lambda i: (values[i], i))


def folded(sizes: torch.Tensor, kept: list[int], chosen: list[int]) -> torch.Tensor:
    """Sizes of the survivors of `merge`: the merged one stands for all that `chosen` stood for."""
    out = sizes.clone()
    out[chosen[-1]] = sizes[chosen].sum()
    return out[kept]


def merge(units: torch.Tensor, scores: torch.Tensor, r: int) -> tuple[torch.Tensor, list[int], list[int]]:
    """Merges r + 1 of `units`, shape [N, ...], into one; r = 0 returns them unchanged.

    Returns the survivors [N - r, ...], their indices, and M in its order.
    """
    n = len(units)
    if not 0 <= r < n:
        raise ValueError(f"r = {r} with {n} tokens")
    chosen = order(scores)[: r + 1]
    if r == 0:
        return units, list(range(n)), chosen
    weights = torch.arange(r + 1, 0, -1, dtype=units.dtype)
    shape = [r + 1] + [1] * (units.dim() - 1)
    merged = (units[chosen] * weights.reshape(shape)).sum(0) / weights.sum()
    gone = set(chosen[:-1])
    kept = [i for i in range(n) if i not in gone]
    out = units.clone()
    out[chosen[-1]] = merged
    return out[kept], kept, chosen
