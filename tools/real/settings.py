"""The settings that evidence compares, as the field `merge` of a request has them."""

OFF = {"preset": "off"}
SHARES = (0.5, 0.35, 0.25, 0.15)
# Encoder layers that merge, of 12.
LAYERS = (5, 6, 7, 8)
# Strategy and whether sizes count in the encoder's attention; None if it keeps none.
RULES = (
    ("merge", None),
    ("prune", None),
    ("random", None),
    ("downsample", None),
    ("prumerge", None),
    ("assign", True),
    ("kmeans", False),
    ("kmeans", True),
    ("greedy", True),
    ("bipartite", False),
    ("bipartite", True),
)


def encoder(tokens: int, share: float, strategy: str, sizes: bool | None) -> dict:
    """Merging in the encoder alone: `share` of `tokens` is left after four equal steps."""
    gone = tokens - round(tokens * share)
    steps = [gone // 4] * 3 + [gone - 3 * (gone // 4)]
    setting = {"vit_layers": list(LAYERS), "vit_r": steps, "strategy": strategy}
    return setting if sizes is None else {**setting, "vit_sizes": sizes}


def name(strategy: str, sizes: bool | None) -> str:
    """As tables call it."""
    return strategy if sizes is None else f"{strategy}, sizes {'on' if sizes else 'off'}"


# The pair: strategy, positions in the decoder (own ones count sizes there, closed ones do not), sizes in the encoder.
PAIR_RULES = (
    ("merge", "own", None),
    ("merge", "closed", None),
    ("prune", "own", None),
    ("random", "own", None),
    ("downsample", "own", None),
    ("prumerge", "own", None),
    ("assign", "own", True),
    ("kmeans", "own", True),
    ("greedy", "own", True),
    ("bipartite", "closed", False),
    ("bipartite", "closed", True),
    ("bipartite", "own", False),
    ("bipartite", "own", True),
)
DECODER_LAYER = 2


def both(tokens: int, share: float, strategy: str, positions: str, sizes: bool | None) -> dict:
    """Merging in both halves, each keeping the root of `share`; strategies that act once keep it in one step."""
    if strategy in ("prumerge", "downsample"):
        return {**encoder(tokens, share, strategy, sizes), "positions": positions}
    half = encoder(tokens, share**0.5, strategy, sizes)
    left = tokens - sum(half["vit_r"])
    return {**half, "llm_layers": [DECODER_LAYER], "llm_r": [left - round(tokens * share)], "positions": positions}


def pair_name(strategy: str, positions: str, sizes: bool | None) -> str:
    """As tables call it."""
    return f"{name(strategy, sizes)}, {positions}"
