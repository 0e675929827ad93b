"""Rules that the paper's method is compared with, float64, each written from its definition.

A step has n tokens with values x [n, ...] and attention received s [n]. Features f [n, d] tell how alike
two are; sizes m [n] are the number of original tokens that each stands for. r of them go. A rule is a
function of (f, s, m, r) to `into` [n]: the survivor that each token goes to, or -1 if it is dropped.

Alike: the cosine of the directions. A token's direction is m f / |f|, that of a
group the sum of its tokens'.

`prune`: the r least attended go (FastV, if s is the last token's attention).
`random`: keys of SplitMix64, the r smallest go.
`bipartite`: ToMe. Tokens 0, 2, 4 ... are A, the others B; each of A finds the
most similar of B; the r most similar pairs merge. At most half can go in one
round, so that more than half take several, over those that are left.
`kmeans`: five iterations on the sphere from tokens at even distances; an empty
cluster takes the token that fits worst into its own; a cluster takes the place of the middle one of its
tokens.
`greedy`: the most similar pair of all merges into the larger, r times.
`prumerge`: scores above Q3 + 1.5 (Q3 - Q1) stay, the others merge into the most
similar of them with their scores for weights. Held to n - r: the highest, if
there are more; if fewer, some of the others at even distances beside them.
`assign`: the r least attended each merge into the most similar of the others.

Ties go to the lower index.
"""

from dataclasses import dataclass

import torch

from .merge import order

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
ITERATIONS = 5


@dataclass(frozen=True)
class Rule:
    name: str = "merge"
    seed: int = 0
    # Sizes count in the attention of the image encoder.
    sizes: bool = False
    # The class token's attention ranks, not that of all rows.
    by_class: bool = False

    @property
    def groups(self) -> bool:
        return self.name in ("bipartite", "kmeans", "greedy", "assign", "prumerge")

    @property
    def scores(self) -> bool:
        return self.name in ("merge", "prune", "assign", "prumerge")


@dataclass
class Inputs:
    """Values that a decision is made from."""

    features: torch.Tensor
    scores: torch.Tensor
    sizes: torch.Tensor
    r: int
    half: int  # 0 encoder, 1 decoder
    layer: int


def mixed(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def drawn(seed: int, half: int, layer: int, n: int) -> list[int]:
    """All tokens in the order in which chance takes them."""
    state = mixed(mixed((seed + GAMMA) & MASK) ^ (half << 32 | layer))
    keys = [mixed((state + (i + 1) * GAMMA) & MASK) for i in range(n)]
    return sorted(range(n), key=lambda i: (keys[i], i))


def unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features.double(), dim=1, eps=0.0)


def alike(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return unit(a) @ unit(b).T


def bipartite(f, s, m, r):
    direction, into = unit(f) * m[:, None], list(range(len(f)))
    alive = list(range(len(f)))
    while r > 0:
        a, b = alive[0::2], alive[1::2]
        best = alike(direction[a], direction[b]).max(dim=1)
        pairs = sorted(range(len(a)), key=lambda i: (-float(best.values[i]), i))[: min(r, len(alive) // 2)]
        change = torch.zeros_like(direction)
        for i in pairs:
            to = b[int(best.indices[i])]
            into[a[i]] = to
            change[to] += direction[a[i]]
        direction = direction + change
        r -= len(pairs)
        alive = [i for i in alive if into[i] == i]
    return followed(into)


def greedy(f, s, m, r):
    direction, size = unit(f) * m[:, None], m.tolist()
    into, alive = list(range(len(f))), list(range(len(f)))
    for _ in range(r):
        table = alike(direction[alive], direction[alive])
        table = table.masked_fill(torch.ones_like(table, dtype=torch.bool).tril(), -3)
        a, b = divmod(int(table.argmax()), len(alive))
        a, b = alive[a], alive[b]
        stays, goes = (b, a) if size[b] > size[a] else (a, b)
        into[goes] = stays
        direction[stays] += direction[goes]
        size[stays] += size[goes]
        alive.remove(goes)
    return followed(into)


def kmeans(f, s, m, r):
    n, k = len(f), len(f) - r
    u = unit(f)
    centres = u[[g * n // k for g in range(k)]]
    for _ in range(ITERATIONS):
        fit, cluster = alike(u, centres).max(dim=1)
        cluster = cluster.tolist()
        for g in range(k):
            if g not in cluster:
                movable = [i for i in range(n) if cluster.count(cluster[i]) > 1]
                cluster[min(movable, key=lambda i: (float(fit[i]), i))] = g
        member = torch.nn.functional.one_hot(torch.tensor(cluster), k).double()
        centres = member.T @ (u * m[:, None])
    into = [0] * n
    for g in range(k):
        members = [i for i in range(n) if cluster[i] == g]
        for i in members:
            into[i] = members[(len(members) - 1) // 2]
    return into


def prumerge(f, s, m, r):
    n, k = len(f), len(f) - r
    s = s.double()
    q1, q3 = torch.quantile(s, torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
    high = [i for i in range(n) if float(s[i]) > q3 + 1.5 * (q3 - q1)]
    rest = [i for i in range(n) if i not in high]
    high = sorted(high, key=lambda i: (-float(s[i]), i))[:k]
    more = k - len(high)
    stay = sorted(high + [rest[(2 * j + 1) * len(rest) // (2 * more)] for j in range(more)])
    nearest = alike(f, f[stay]).argmax(dim=1).tolist()
    return [i if i in stay else stay[nearest[i]] for i in range(n)]


def followed(into: list[int]) -> list[int]:
    def end(i: int) -> int:
        return i if into[i] == i else end(into[i])

    return [end(i) for i in range(len(into))]


def decide(rule: Rule, inputs: Inputs) -> tuple[list[int], list[int]]:
    """`into`, and the tokens that go in the order they are told in."""
    n, r = len(inputs.scores), inputs.r
    if rule.name == "prune":
        gone = order(inputs.scores)[:r]
    elif rule.name == "assign":
        gone = order(inputs.scores)[:r]
        stay = sorted(set(range(n)) - set(gone))
        nearest = alike(inputs.features[gone], inputs.features[stay]).argmax(dim=1).tolist()
        into = list(range(n))
        for i, at in zip(gone, nearest, strict=True):
            into[i] = stay[at]
        return into, gone
    elif rule.name == "random":
        gone = drawn(rule.seed, inputs.half, inputs.layer, n)[:r]
    else:
        rules = {"bipartite": bipartite, "kmeans": kmeans, "greedy": greedy, "prumerge": prumerge}
        into = rules[rule.name](inputs.features, inputs.scores, inputs.sizes, r)
        return into, [i for i in range(n) if into[i] != i]
    lost = set(gone)
    return [-1 if i in lost else i for i in range(n)], gone


def reduce(rule: Rule, units: torch.Tensor, inputs: Inputs):
    """Values of the survivors, their indices, who went, the groups, and their sizes."""
    into, gone = decide(rule, inputs)
    kept = [i for i, to in enumerate(into) if to == i]
    weights = inputs.scores if rule.name == "prumerge" else inputs.sizes
    shape = [-1] + [1] * (units.dim() - 1)
    values, sizes, groups = [], [], []
    for survivor in kept:
        members = [i for i, to in enumerate(into) if to == survivor]
        w = weights[members].double()
        values.append((units[members] * w.reshape(shape)).sum(0) / w.sum())
        sizes.append(float(inputs.sizes[members].sum()))
        if len(members) > 1:
            groups.append([i for i in members if i != survivor] + [survivor])
    return torch.stack(values), kept, gone, groups, torch.tensor(sizes, dtype=torch.float64)
