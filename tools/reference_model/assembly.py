"""What becomes of the encoder's tokens of one picture or video before the decoder, float64.

Written on tensors and masks, sharing nothing with the engine, which works on
indices. A tile is its embeddings [n, width] with the cells they stand on. Two
treatments of a grid that merging has thinned:

`faithful`: tokens stay on their cells. What lies in the padding goes; a row of
the grid without a token brings no newline; an interpolated cell is the
bilinear mean of the tokens around its centre that are there, none if there is
none.

`reference`: the n tokens of a tile are taken for a full grid of sqrt(n) x
sqrt(n), in order, and everything goes on as without merging.
"""

from math import isqrt, sqrt

import torch


class Tile:
    """Embeddings on a grid: `values` [rows, columns, width], `there` [rows, columns]."""

    def __init__(self, embeddings: torch.Tensor, cells: list[int], rows: int, columns: int):
        width = embeddings.shape[1]
        self.values = torch.zeros(rows * columns, width, dtype=torch.float64)
        self.there = torch.zeros(rows * columns, dtype=torch.bool)
        self.values[cells] = embeddings.double()
        self.there[cells] = True
        self.values = self.values.reshape(rows, columns, width)
        self.there = self.there.reshape(rows, columns)


def relabelled(embeddings: torch.Tensor) -> Tile:
    side = isqrt(len(embeddings))
    if side * side != len(embeddings):
        raise ValueError(f"{len(embeddings)} tokens are no square")
    return Tile(embeddings, list(range(len(embeddings))), side, side)


def interpolated(values: torch.Tensor, there: torch.Tensor, rows: int, columns: int):
    """`values` [h, w, width] with the mask `there`, to rows x columns; means of what is there."""

    def matrix(to: int, frm: int) -> torch.Tensor:
        out = torch.zeros(to, frm, dtype=torch.float64)
        for i in range(to):
            at = max((i + 0.5) * frm / to - 0.5, 0.0)
            low = min(int(at), frm - 1)
            high = min(low + 1, frm - 1)
            out[i, low] += 1 - (at - low)
            out[i, high] += at - low
        return out

    down, across = matrix(rows, values.shape[0]), matrix(columns, values.shape[1])
    mask = there.double()
    total = down @ mask @ across.T
    weighted = torch.einsum("ih,hwd,jw->ijd", down, values * mask[..., None], across)
    present = total > 1e-6
    return weighted / total.clamp(min=1e-12)[..., None], present


def unpadded(values, there, picture: tuple[int, int]):
    """Without the rows or columns that show padding; `picture` is (height, width) in pixels."""
    height, width = picture
    rows, columns = there.shape
    if width / height > columns / rows:
        margin = (rows - int(round(height * (columns / width), 7))) // 2
        return values[margin : rows - margin], there[margin : rows - margin]
    margin = (columns - int(round(width * (rows / height), 7))) // 2
    return values[:, margin : columns - margin], there[:, margin : columns - margin]


def anyres(base, tiles: list[Tile], grid, picture, newline, max_tiles=None) -> torch.Tensor:
    """`base` [n, width], tiles row by row of `grid` (down, across), `newline` [width]."""
    down, across = grid
    side = tiles[0].there.shape[0]
    lines = [tiles[i * across : (i + 1) * across] for i in range(down)]
    values = torch.cat([torch.cat([t.values for t in line], dim=1) for line in lines])
    there = torch.cat([torch.cat([t.there for t in line], dim=1) for line in lines])
    values, there = unpadded(values, there, picture)
    if max_tiles is not None:
        h, w = there.shape
        ratio = sqrt(h * w / (max_tiles * side**2))
        if ratio > 1.1:
            values, there = interpolated(values, there, int(h // ratio), int(w // ratio))
    parts = [base.double()]
    for row, mask in zip(values, there):
        if mask.any():
            parts += [row[mask], newline[None].double()]
    return torch.cat(parts)


def video(frames: list[Tile], newline) -> torch.Tensor:
    parts = []
    for frame in frames:
        rows, columns = frame.there.shape
        values, there = interpolated(frame.values, frame.there, -(-rows // 2), -(-columns // 2))
        parts.append(values[there])
    return torch.cat([*parts, newline[None].double()])
