"""Which region of a picture a text-image model chooses, in float64: windows over the picture, or a box around what a map
shows. An account of docs/crops.md that shares nothing with the program."""

import math

import numpy as np

SHARES = (1.0, 0.75, 0.5)
MARGIN, LEAST = 1 / 8, 1 / 4


def windows(width: int, height: int) -> list[list[int]]:
    """Left, top, right, bottom of every window, the largest first, then row by row."""
    found = []
    for share in SHARES:
        places = []
        for length in (width, height):
            side = max(math.floor(share * length + 0.5), 1)
            count = 1 + math.ceil((1 - share) / (share / 2))
            starts = [math.floor((length - side) * i / max(count - 1, 1) + 0.5) for i in range(count)]
            places.append([(start, start + side) for start in starts])
        found += [[left, top, right, bottom] for top, bottom in places[1] for left, right in places[0]]
    return found


def component(mask: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The connected part of `mask` (4 neighbours) that weighs most; the one that begins first among equals."""
    labels = np.where(mask, np.arange(mask.size).reshape(mask.shape), -1)
    while True:
        padded = np.pad(labels, 1, constant_values=-1)
        around = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        smallest = labels
        for other in around:
            smallest = np.where(mask & (other >= 0), np.minimum(smallest, other), smallest)
        if (smallest == labels).all():
            break
        labels = smallest
    names = sorted(set(labels[mask].tolist()))
    weights = [math.fsum(weight[labels == name].tolist()) for name in names]
    return labels == names[int(np.argmax(weights))]


def _grown(low: float, high: float, size: float) -> tuple[float, float]:
    """A side with its margin, at least a quarter of the map long, moved inside it."""
    length = min(max((high - low) * (1 + 2 * MARGIN), size * LEAST), size)
    start = min(max((low + high) / 2 - length / 2, 0.0), size - length)
    return start, start + length


def box(logits: np.ndarray, width: int, height: int) -> list[int]:
    """Pixels of the box around the strongest part of a map [rows, columns] over a picture."""
    shares = 1 / (1 + np.exp(-logits.astype(np.float64)))
    rows, columns = np.nonzero(component(shares >= shares.max() / 2, shares))
    left, right = _grown(columns.min(), columns.max() + 1, logits.shape[1])
    top, bottom = _grown(rows.min(), rows.max() + 1, logits.shape[0])
    across, down = width / logits.shape[1], height / logits.shape[0]
    return [math.floor(left * across), math.floor(top * down), math.ceil(right * across), math.ceil(bottom * down)]
