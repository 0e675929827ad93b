"""Assembly of the encoder's tokens of one picture or video before the decoder, float64.

Written on tensors and masks, sharing nothing with the engine, which works on
indices. A tile is its embeddings [n, width] with the cells they stand on. Two
treatments of a grid that merging has thinned:

`faithful`: tokens stay on their cells. Tokens in the padding go; a row of the grid without a token brings no
newline; an interpolated cell is the bilinear mean of the tokens around its centre that are there, none if there
is none.

`reference`: the n tokens of a tile are taken for a full grid of sqrt(n) x
sqrt(n), in order, and everything goes on as without merging.
"""

from dataclasses import dataclass
from math import isqrt, sqrt

import torch


@dataclass
class Span:
    """`rows` [n, width] with their `places` and `sizes` [n] in a span of `length` rows before merging."""

    rows: torch.Tensor
    places: list[int]
    sizes: torch.Tensor
    length: int


class Tile:
    """Embeddings on a grid: `values` [rows, columns, width], `there` and `sizes` [rows, columns]."""

    def __init__(self, embeddings: torch.Tensor, cells: list[int], rows: int, columns: int, sizes=None):
        width = embeddings.shape[1]
        self.values = torch.zeros(rows * columns, width, dtype=torch.float64)
        self.there = torch.zeros(rows * columns, dtype=torch.bool)
        self.sizes = torch.zeros(rows * columns, dtype=torch.float64)
        self.values[cells] = embeddings.double()
        self.there[cells] = True
        self.sizes[cells] = torch.ones(len(cells), dtype=torch.float64) if sizes is None else sizes.double()
        self.values = self.values.reshape(rows, columns, width)
        self.there = self.there.reshape(rows, columns)
        self.sizes = self.sizes.reshape(rows, columns)


def relabelled(embeddings: torch.Tensor) -> Tile:
    side = isqrt(len(embeddings))
    if side * side != len(embeddings):
        raise ValueError(f"{len(embeddings)} tokens are no square")
    return Tile(embeddings, list(range(len(embeddings))), side, side)


def weights(to: int, frm: int) -> torch.Tensor:
    """Bilinear, corners not aligned: [to, frm], rows sum to 1."""
    out = torch.zeros(to, frm, dtype=torch.float64)
    for i in range(to):
        at = max((i + 0.5) * frm / to - 0.5, 0.0)
        low = min(int(at), frm - 1)
        high = min(low + 1, frm - 1)
        out[i, low] += 1 - (at - low)
        out[i, high] += at - low
    return out


def interpolated(tile, rows: int, columns: int):
    """`tile` (values, there, sizes) to rows x columns: means of the values that are there, sums of the sizes."""
    values, there, sizes = tile
    down, across = weights(rows, values.shape[0]), weights(columns, values.shape[1])
    mask = there.double()
    total = down @ mask @ across.T
    weighted = torch.einsum("ih,hwd,jw->ijd", down, values * mask[..., None], across)
    present = total > 1e-6
    return weighted / total.clamp(min=1e-12)[..., None], present, down @ sizes @ across.T


def unpadded(tile, picture: tuple[int, int]):
    """Without the rows or columns that show padding; `picture` is (height, width) in pixels."""
    height, width = picture
    rows, columns = tile[1].shape
    if width / height > columns / rows:
        margin = (rows - int(round(height * (columns / width), 7))) // 2
        return tuple(part[margin : rows - margin] for part in tile)
    margin = (columns - int(round(width * (rows / height), 7))) // 2
    return tuple(part[:, margin : columns - margin] for part in tile)


class Builder:
    """A span cell by cell, counting those that are not there."""

    def __init__(self):
        self.rows, self.places, self.sizes, self.length = [], [], [], 0

    def cell(self, value, there: bool, size: float) -> None:
        if there:
            self.rows.append(value.double())
            self.places.append(self.length)
            self.sizes.append(float(size))
        self.length += 1

    def line(self, values, there, sizes) -> None:
        for cell in zip(values, there.tolist(), sizes.tolist()):
            self.cell(*cell)

    def grid(self, values, there, sizes) -> None:
        for line in zip(values, there, sizes):
            self.line(*line)

    def span(self) -> Span:
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        return Span(torch.stack(self.rows), self.places, sizes, self.length)


def plain(tiles: list[Tile], newline=None) -> Span:
    out = Builder()
    for tile in tiles:
        out.grid(tile.values, tile.there, tile.sizes)
    if newline is not None:
        out.cell(newline, True, 1)
    return out.span()


def anyres(base: Tile, tiles: list[Tile], grid, picture, newline, max_tiles=None) -> Span:
    """The view `base`, then tiles row by row of `grid` (down, across), `newline` [width] behind each row."""
    down, across = grid
    side = tiles[0].there.shape[0]
    lines = [tiles[i * across : (i + 1) * across] for i in range(down)]

    def joined(part):
        return torch.cat([torch.cat([part(t) for t in line], dim=1) for line in lines])

    whole = joined(lambda t: t.values), joined(lambda t: t.there), joined(lambda t: t.sizes)
    whole = unpadded(whole, picture)
    if max_tiles is not None:
        h, w = whole[1].shape
        ratio = sqrt(h * w / (max_tiles * side**2))
        if ratio > 1.1:
            whole = interpolated(whole, int(h // ratio), int(w // ratio))
    out = Builder()
    out.grid(base.values, base.there, base.sizes)
    for values, there, sizes in zip(*whole):
        out.line(values, there, sizes)
        out.cell(newline, bool(there.any()), 1)
    return out.span()


def video(frames: list[Tile], newline) -> Span:
    out = Builder()
    for frame in frames:
        rows, columns = frame.there.shape
        whole = frame.values, frame.there, frame.sizes
        out.grid(*interpolated(whole, -(-rows // 2), -(-columns // 2)))
    out.cell(newline, True, 1)
    return out.span()
