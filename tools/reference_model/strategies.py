"""Rules that the paper's method is compared with, float64, each written from its definition.

A step has n tokens with values x [n, ...] and attention received s [n]. Features f [n, d] tell how alike
two are; sizes m [n] are the number of original tokens that each stands for. r of them go. A rule is a
function of (f, s, m, r) to `into` [n]: the survivor that each token goes to, or -1 if it is dropped. With a
mass, all but the smallest set that holds this share of the scores' sum go, if they are more than r.

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
`visionzip`: of the n - r that stay, 27 of 32 are the most attended. The others are every k-th of the rest,
k as large as it can be; each of the rest goes to the most similar of these, and the mean of those that go
is added to it.
`sparsevlm`: the most attended stay; of m others the next int(0.3 m) + 1 become clusters, one for each ten
and one more, by density peaks over the tokens' own values; the rest is dropped. The n - r tokens are both.

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
    # Once, behind the encoder's last layer.
    behind: bool = False
    # Attention that ranks in the decoder, and the share of it that stays; 0 if the number does.
    score: str = "image"
    mass: float = 0.0

    @property
    def groups(self) -> bool:
        return self.name in ("bipartite", "kmeans", "greedy", "assign", "prumerge", "visionzip", "sparsevlm")

    @property
    def scores(self) -> bool:
        return self.name in ("merge", "prune", "assign", "prumerge", "visionzip", "sparsevlm")

    @property
    def in_encoder(self) -> bool:
        return self.score == "image"

    @property
    def in_decoder(self) -> bool:
        return self.name not in ("prumerge", "visionzip") and not self.behind


@dataclass
class Inputs:
    """Values that a decision is made from."""

    features: torch.Tensor
    scores: torch.Tensor
    sizes: torch.Tensor
    r: int
    half: int  # 0 encoder, 1 decoder
    layer: int
    values: torch.Tensor | None = None  # [n, width] of the tokens themselves
    mass: float = 0.0


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


def visionzip(f, s, m, r):
    n, k = len(f), len(f) - r
    targets = (k * 5 + 16) // 32
    dominant = order(s)[r + targets :]
    rest = [i for i in range(n) if i not in dominant]
    if targets == 0:
        return [i if i in dominant else -1 for i in range(n)]
    drawn_evenly = rest[:: len(rest) // targets][:targets]
    into = list(range(n))
    for i in rest:
        if i not in drawn_evenly:
            into[i] = drawn_evenly[int(alike(f[i : i + 1], f[drawn_evenly]).argmax())]
    return into


def recycled(n: int, left: int) -> tuple[int, int, int]:
    """Of n tokens: how many stay, how many of the others are recycled, and into how many clusters."""
    for stay in range(left, -1, -1):
        chosen = int(0.3 * (n - stay)) + 1
        clusters = chosen // 10 + 1
        if stay + clusters <= left:
            break
    chosen = min(chosen, n - stay)
    return stay, chosen, min(left - stay, chosen)


def density_peaks(x: torch.Tensor, k: int) -> list[int]:
    """Of every row the centre it goes to."""
    m = len(x)
    distance = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distance = distance / x.shape[1] ** 0.5
    density = (-(distance.sort(dim=1).values[:, :k] ** 2).mean(1)).exp()
    longest = distance.max()
    apart = torch.stack([torch.where(density > density[i], distance[i], longest).min() for i in range(m)])
    peaks = (apart * density).tolist()
    centres = sorted(range(m), key=lambda i: (-peaks[i], i))[:k]
    return [i if i in centres else min(centres, key=lambda c: float(distance[i, c])) for i in range(m)]


def sparsevlm(x, s, r):
    n = len(x)
    stay, chosen, clusters = recycled(n, n - r)
    ranked = order(s)[::-1]
    again = sorted(ranked[stay : stay + chosen])
    into = [i if i in ranked[:stay] else -1 for i in range(n)]
    for i, centre in zip(again, density_peaks(x[again], clusters), strict=True):
        into[i] = again[centre]
    return into


def smallest_share(scores: torch.Tensor, share: float) -> int:
    """How many of the highest scores hold this share of their sum."""
    values = sorted(scores.double().tolist(), reverse=True)
    return next(k + 1 for k in range(len(values)) if sum(values[: k + 1]) >= share * sum(values))


def followed(into: list[int]) -> list[int]:
    def end(i: int) -> int:
        return i if into[i] == i else end(into[i])

    return [end(i) for i in range(len(into))]


def decide(rule: Rule, inputs: Inputs) -> tuple[list[int], list[int]]:
    """`into`, and the tokens that go in the order they are told in."""
    n, r = len(inputs.scores), inputs.r
    if inputs.mass > 0:
        r = max(r, n - smallest_share(inputs.scores, inputs.mass))
    if rule.name == "sparsevlm":
        into = sparsevlm(inputs.values, inputs.scores, r)
        gone = [i for i in order(inputs.scores) if into[i] != i]
        return into, gone
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
        rules = {
            "bipartite": bipartite,
            "kmeans": kmeans,
            "greedy": greedy,
            "prumerge": prumerge,
            "visionzip": visionzip,
        }
        into = rules[rule.name](inputs.features, inputs.scores, inputs.sizes, r)
        return into, [i for i in range(n) if into[i] != i]
    lost = set(gone)
    return [-1 if i in lost else i for i in range(n)], gone


def reduce(rule: Rule, units: torch.Tensor, inputs: Inputs):
    """Values of the survivors, their indices, who went, the groups, and their sizes."""
    into, gone = decide(rule, inputs)
    kept = [i for i, to in enumerate(into) if to == i]
    weights = inputs.scores if rule.name == "prumerge" else inputs.sizes
    if rule.name == "sparsevlm":
        weights = torch.ones(len(into))
    shape = [-1] + [1] * (units.dim() - 1)
    values, sizes, groups = [], [], []
    for survivor in kept:
        members = [i for i, to in enumerate(into) if to == survivor]
        w = weights[members].double()
        others = [i for i in members if i != survivor]
        if rule.name == "visionzip" and others:
            values.append(units[survivor] + units[others].mean(0))
        else:
            values.append((units[members] * w.reshape(shape)).sum(0) / w.sum())
        sizes.append(float(inputs.sizes[members].sum()))
        if len(members) > 1:
            groups.append([i for i in members if i != survivor] + [survivor])
    return torch.stack(values), kept, gone, groups, torch.tensor(sizes, dtype=torch.float64)
