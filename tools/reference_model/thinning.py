"""A KV cache thinned behind the prompt (LOOK-M), float64, written from its definition.

Of a picture's n rows r leave the cache: by attention received, the least first, but those among the latest of the
prompt's rows after all others. In every layer and head each of them goes to the row, of those that stay, whose key has
the highest cosine with its own. A row c with m others p is afterwards the mean of itself and of m rows, which are
(c + p) / 2 (`pivotal`), p (`averaged`), or p times the cosine (`weighted`). Values go where their keys go.
"""

import torch

from .merge import Step, order
from .strategies import alike


def thinned_step(layer: int, scores: torch.Tensor, r: int, latest: int) -> Step:
    n = len(scores)
    ranked = order(scores)
    ranked = [i for i in ranked if i < n - latest] + [i for i in ranked if i >= n - latest]
    return Step("decoder", layer, n, scores, sorted(ranked[r:]), ranked[:r], None)


def nearest(keys: torch.Tensor, gone: list[int], stay: list[int]) -> tuple[list[list[int]], torch.Tensor]:
    """Of keys [heads, rows, d]: the place in `stay` that each of `gone` goes to in each head, and their cosines."""
    best = torch.stack([alike(head[gone], head[stay]) for head in keys]).max(dim=2)
    return best.indices.tolist(), best.values


def take_up(keys, values, gone, stay, how):
    """Keys and values of the rows that stay, [heads, rows, d] each."""
    to, cosines = nearest(keys, gone, stay)
    out = []
    for x in (keys, values):
        rows = x[:, stay].clone()
        for h in range(len(x)):
            for at in set(to[h]):
                members = [(i, p) for i, (p, target) in enumerate(zip(gone, to[h])) if target == at]
                taken = {
                    "pivotal": lambda i, p: (x[h, stay[at]] + x[h, p]) / 2,
                    "averaged": lambda i, p: x[h, p],
                    "weighted": lambda i, p: cosines[h, i] * x[h, p],
                }[how]
                rows[h, at] = torch.stack([x[h, stay[at]], *(taken(i, p) for i, p in members)]).mean(0)
        out.append(rows)
    return out
