"""How near two runs of the tower are, and intervals of means."""

import numpy as np


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, in float64."""
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors."""
    return float(unit(a) @ unit(b))


def cover(off: np.ndarray, left: np.ndarray) -> np.ndarray:
    """For each row of `off` [n, d] the cosine of the row of `left` [m, d] that is most like it: [n]."""
    return (unit(off) @ unit(left).T).max(1)


def nearest(rows: np.ndarray) -> np.ndarray:
    """For each row the number of the other row that is most like it."""
    alike = unit(rows) @ unit(rows).T
    np.fill_diagonal(alike, -np.inf)
    return alike.argmax(1)


def interval(values: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over pictures."""
    values = np.asarray(values, np.float64)
    picked = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(values[picked].mean(1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)
