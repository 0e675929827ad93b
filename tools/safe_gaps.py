"""Whether what a merge keeps hangs on rounding."""

from reference_model.merge import order

MARGIN = 3.0


def far_apart(exact, other) -> bool:
    """Whether the scores next to the edge of what goes are apart by `MARGIN` times what rounding moves them."""
    for (_, _, a), (_, _, b) in zip(exact, other):
        if a.into is None:
            continue  # Scores do not tell which tokens are alike.
        r = len(a.merged) - 1
        edge = order(a.scores)[max(r - 1, 0) : r + 2]
        low = a.scores[edge]
        moved = (a.scores - b.scores)[edge].abs().max()
        if (low[1:] - low[:-1]).min() < MARGIN * moved:
            return False
    return True
