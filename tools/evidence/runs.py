"""Which schedules are compared in which table.

A run is one call of `illava eval`, which answers every question without merging too: so each row
has a difference, and times to compare with, from its own call.
"""

from dataclasses import dataclass, replace

# Questions of each set for tables whose rows differ by many points.
PART = 500
STRATEGIES = ("prune", "random", "bipartite", "kmeans", "greedy", "prumerge", "downsample")


@dataclass(frozen=True)
class Run:
    table: str
    name: str           # what the row is called
    flags: tuple        # of `illava eval`
    # Strategies measured beside `merge` in the same call.
    strategies: tuple = ()
    # Questions of each set that are asked, the first ones; None: all.
    limit: int | None = None

    @property
    def key(self):
        return f"{self.table}/{self.name}"


def _layers(layers):
    return ",".join(str(layer) for layer in layers)


def encoder_flags(layers, removed):
    """Flags that remove `removed` tokens in equal steps, what is left over in the last."""
    each, rest = divmod(removed, len(layers))
    amounts = [each] * (len(layers) - 1) + [each + rest]
    return ("--vit-layers", _layers(layers), "--vit-r", _layers(amounts))


def decoder_flags(layers, keep):
    """Flags that keep the share `keep` after all `layers` together."""
    return ("--llm-layers", _layers(layers), "--llm-keep", f"{keep ** (1 / len(layers)):.3f}")


def _names(layers):
    return "{" + ", ".join(str(layer) for layer in layers) + "}"


def _four(first, count):
    return tuple(range(first, min(first + 4, count)))


# The paper's shares: 361 and then 253 of 729 tokens.
def _papers_budget(shape):
    return encoder_flags(shape.vit, shape.tokens - round(shape.tokens * 361 / 729)) + decoder_flags((shape.llm,), 253 / 361)


BUDGETS = ("0.5", "0.35", "0.25", "0.15")
OTHERS = ("merge", "random", "kmeans")


def runs(shape):
    """Every run, those first that say most."""
    flags, bipartite = _papers_budget(shape), ("--strategy", "bipartite")
    closed, unsized = ("--positions", "closed"), ("--vit-sizes", "off")
    found = [Run("presets", "balanced", ("--merge", "balanced"), ("auto", "0.15"))]
    found += [Run("cures", "own positions, sizes", flags + bipartite, limit=PART),
              Run("cures", "sizes not counted in the encoder", flags + bipartite + unsized, limit=PART),
              Run("cures", "closed positions", flags + bipartite + closed, limit=PART),
              Run("cures", "closed positions, no sizes", flags + bipartite + closed + unsized, limit=PART)]
    found += [Run("rules", "bipartite", flags + bipartite, ("assign", "merge", "prune", "random", "kmeans", "greedy"))]
    beside = (*BUDGETS[1:], *(f"{keep}/{other}" for other in OTHERS for keep in BUDGETS))
    found += [Run("shares", BUDGETS[0], ("--merge", "balanced", "--keep", BUDGETS[0]), beside, PART)]
    return found


def closed_runs(shape):
    """The paper's tables as its authors' code computes: survivors close up, and nobody counts sizes."""
    return [replace(run, flags=(*run.flags, "--positions", "closed", "--vit-sizes", "off")) for run in _tables(shape)]


def _tables(shape):
    n, vit, llm = shape.tokens, shape.vit, shape.llm
    half = n - round(n * 361 / 729)
    found = [Run("schedules", "its own" if shape.own else "paper", ("--merge", "model" if shape.own else "paper"))]
    grouped = tuple(s for s in STRATEGIES if s not in ("downsample", "prumerge"))
    if shape.own:
        # A strategy that acts once, before the decoder, takes no decoder layers by hand: it gets the last number at
        # once.
        found += [Run("budget", "merge", encoder_flags(vit, half) + decoder_flags((llm,), 253 / 361), grouped),
                  Run("budget", "merge, encoder alone", encoder_flags(vit, n - round(n * 253 / 729)), ("prumerge", "downsample"))]
    # The paper's Table 5: 576 to 225 of 729.
    found += [Run("encoder budgets", f"{n - removed} of {n}", encoder_flags(vit, removed))
              for removed in (n - round(n * kept / 729) for kept in (576, 425, 361, 225))]
    # Table 8: 300 to 169 of 361.
    found += [Run("decoder budgets", f"{kept / 361:.0%}", decoder_flags((llm,), kept / 361), limit=PART)
              for kept in (300, 253, 225, 169)]
    # Table 6: other layers, at half of the tokens.
    places = [(vit[1],), _four(0, shape.tower_layers), _four(2, shape.tower_layers),
              _four(shape.tower_layers - 4, shape.tower_layers)]
    found += [Run("encoder layers", _names(layers), encoder_flags(layers, half), limit=PART)
              for layers in dict.fromkeys(places) if len(layers) > 0]
    # Table 9, at half of the tokens.
    last = shape.text_layers - 1
    places = dict.fromkeys([(1,), (2,), (last,), (1, 2)])
    found += [Run("decoder layers", _names(layers), decoder_flags(layers, 0.5), limit=PART)
              for layers in places if layers[-1] <= last]
    # Tables 4, 7 and 3; under a preset its decoder half counts as budget of what acts before the decoder.
    found += [Run("encoder strategies", "half", encoder_flags(vit, half), STRATEGIES, PART),
              Run("decoder strategies", "half", decoder_flags((llm,), 0.5), grouped, PART),
              Run("strategies", "its own" if shape.own else "paper", found[0].flags, STRATEGIES, PART)]
    return found
