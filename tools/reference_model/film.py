"""Free Video-LLM in float64 NumPy: which frames a question chooses, which region of each is shown in detail, and the rows
of the span. An account of docs/crops.md that shares nothing with the program."""

import math

import numpy as np

ASKED, EVEN, SHARE, COARSE = 3, 5, 0.8, 4


def cosine(rows: np.ndarray, text: np.ndarray) -> np.ndarray:
    rows, text = rows.astype(np.float64), text.astype(np.float64)
    return rows @ text / np.linalg.norm(rows, axis=-1) / np.linalg.norm(text)


def asked(cosines: np.ndarray) -> list[int]:
    """The frames that go best with the question, in their order; the earlier one of equals."""
    return sorted(sorted(range(len(cosines)), key=lambda i: (-cosines[i], i))[:ASKED])


def even(count: int) -> list[int]:
    return sorted({int(place) for place in np.linspace(0, count, EVEN + 1)[:-1]})


def paired(cells: np.ndarray) -> np.ndarray:
    """[side, side, d] to [side, pairs, d]: the larger of two neighbours in a line; the last of an odd line is alone."""
    side = len(cells)
    padded = np.concatenate([cells, np.full((side, side % 2, cells.shape[2]), -np.inf)], axis=1)
    return padded.reshape(side, -1, 2, cells.shape[2]).max(axis=2)


def reading(side: int, grid: str) -> tuple[int, int]:
    """Lines and columns as which the list of pairs is counted."""
    pairs = math.ceil(side / 2)
    return (side, pairs) if grid == "faithful" else (pairs, side)


def region_size(side: int, grid: str, share: float = SHARE) -> tuple[int, int]:
    return tuple(round(length * math.sqrt(share)) for length in reading(side, grid))


def size_within(side: int, grid: str, frames: int, details: int, target: float) -> tuple[tuple[int, int], float]:
    """The size with which the film has the number of rows nearest to `target`, and its share."""
    lines, columns = reading(side, grid)
    sizes = [(tall, max(math.floor(columns * tall / lines + 0.5), 1)) for tall in range(1, lines + 1)]
    coarse = frames * min(COARSE, side) ** 2
    size = min(sizes, key=lambda size: abs(details * size[0] * size[1] + coarse - target))
    return size, size[0] * size[1] / (lines * columns)


def region(similarity: np.ndarray, from_side: int, side: int, grid: str, size: tuple[int, int], share: float) -> list[int]:
    """Pairs of a frame of `side` cells in the region; `similarity` has one value for each pair of `from_side` cells."""
    have, want = reading(from_side, grid), reading(side, grid)
    values = similarity.ravel()
    best = sorted(range(len(values)), key=lambda i: (-values[i], i))[:max(int(len(values) * share), 1)]
    first = []
    for axis in (0, 1):
        places = [i // have[1] if axis == 0 else i % have[1] for i in best]
        middle = (sum(places) / len(places) + 0.5) * want[axis] / have[axis] - 0.5 + 1e-9
        first.append(min(max(int(max(middle, 0)) - size[axis] // 2, 0), want[axis] - size[axis]))
    return [y * want[1] + x for y in range(first[0], first[0] + size[0]) for x in range(first[1], first[1] + size[1])]


def outline(cells: np.ndarray) -> np.ndarray:
    """[side, side, d] to the means of COARSE x COARSE parts, as AdaptiveAvgPool2d."""
    side, to = len(cells), min(COARSE, len(cells))
    parts = [slice(i * side // to, -(-(i + 1) * side // to)) for i in range(to)]
    return np.stack([cells[y, x].mean(axis=(0, 1)) for y in parts for x in parts])


def rows(embeddings: np.ndarray, cosines: np.ndarray, similarity: np.ndarray, from_side: int, grid: str = "faithful") -> np.ndarray:
    """The span of a video from its frames' embeddings [frames, side, side, d]."""
    side = embeddings.shape[1]
    size = region_size(side, grid)
    found = []
    for frame in asked(cosines) + even(len(cosines)):
        pairs = paired(embeddings[frame]).reshape(-1, embeddings.shape[-1])
        found.append(pairs[region(similarity[frame], from_side, side, grid, size, SHARE)])
    return np.concatenate(found + [outline(frame) for frame in embeddings.astype(np.float64)])
