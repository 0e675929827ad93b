"""Search for inputs whose result does not hang on rounding, seed by seed."""


def first_seed(seeds: int, attempt, lacking: str):
    """The first seed below `seeds` that `attempt` has a result for, and the result; None is no result."""
    for seed in range(seeds):
        result = attempt(seed)
        if result is not None:
            return seed, result
    raise SystemExit(f"{lacking} in {seeds} seeds")
