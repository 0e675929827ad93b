"""Renders pictures without ground: pages of characters, tables, bar charts."""

from dataclasses import dataclass

import numpy as np

from .scenes import RGB
from .vocabulary import COLORS, GLYPHS

# Five columns by seven rows each, in the order of vocabulary.GLYPHS.
_FONT = """
.###. ..#.. .###. .###. ...#. ##### ..##. ##### .###. .###. .###. .###. ##### ##### #...# #...# #.... ####. ##### #...#
#...# .##.. #...# #...# ..##. #.... .#... ....# #...# #...# #...# #...# #.... #.... #...# #..#. #.... #...# ..#.. #...#
#..## ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...# #...# #.... #.... #.... #...# #.#.. #.... #...# ..#.. .#.#.
#.#.# ..#.. ..##. ..##. #..#. ....# ####. ..#.. .###. .#### ##### #.... ####. ####. ##### ##... #.... ####. ..#.. ..#..
##..# ..#.. .#... ....# ##### ....# #...# ..#.. #...# ....# #...# #.... #.... #.... #...# #.#.. #.... #.... ..#.. .#.#.
#...# ..#.. #.... #...# ...#. #...# #...# .#... #...# ...#. #...# #...# #.... #.... #...# #..#. #.... #.... ..#.. #...#
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .##.. #...# .###. ##### #.... #...# #...# ##### #.... ..#.. #...#
"""
_BITMAPS = np.array([[[c == "#" for c in glyph] for glyph in line.split()]
                     for line in _FONT.strip().split("\n")], np.float32).transpose(1, 0, 2)


LETTERS = [g for g in GLYPHS if g.isalpha()]
MOST = 9        # of a bar, in units of its axis


@dataclass(frozen=True)
class Page:
    """Characters in rows; a fine page has a character in each patch, a coarse one in four."""
    rows: tuple     # of strings
    fine: bool


@dataclass(frozen=True)
class Table:
    """Numbers of two digits under a letter for each column, beside one for each row."""
    columns: str
    lines: str
    cells: tuple    # rows of strings


@dataclass(frozen=True)
class Chart:
    """Bars from left to right: (colour, height 1 to MOST)."""
    bars: tuple


def random_page(rng, geometry, fine):
    cells = geometry.grid if fine else geometry.grid // 2
    return Page(tuple("".join(GLYPHS[g] for g in rng.integers(0, len(GLYPHS), cells))
                      for _ in range(cells)), fine)


def random_table(rng, geometry):
    most_columns, most_lines = _table_size(geometry.side, 1)
    columns = int(rng.integers(2, min(most_columns, len(LETTERS)) + 1))
    lines = int(rng.integers(2, min(most_lines, len(LETTERS)) + 1))
    names = ["".join(rng.permutation(LETTERS)[:n]) for n in (columns, lines)]
    return Table(*names, tuple(tuple(f"{n:02}" for n in rng.integers(0, 100, columns))
                               for _ in range(lines)))


def random_chart(rng):
    count = int(rng.integers(3, 7))
    colors = rng.permutation(COLORS)[:count]
    # Different heights, so that one bar is the highest and one the lowest.
    heights = rng.permutation(MOST)[:count] + 1
    return Chart(tuple((str(c), int(h)) for c, h in zip(colors, heights)))


def render(rng, picture, side):
    """uint8 [side, side, 3]; `rng` gives colours, small shifts and noise."""
    light, dark = rng.uniform(170, 255, 3), rng.uniform(0, 60, 3)
    paper, ink = (light, dark) if rng.random() < 0.5 else (dark, light)
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = paper
    {Page: _page, Table: _table, Chart: _chart}[type(picture)](rng, picture, canvas, ink)
    if rng.random() < 0.5:
        canvas += rng.standard_normal((side, side, 1), np.float32) * rng.uniform(2, 8)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _write(canvas, text, left, top, scale, ink):
    for number, glyph in enumerate(text):
        bitmap = _BITMAPS[GLYPHS.index(glyph)].repeat(scale, 0).repeat(scale, 1)[..., None]
        x = left + number * 6 * scale
        box = canvas[top:top + 7 * scale, x:x + 5 * scale]
        box += bitmap * (ink - box)


def _page(rng, page, canvas, ink):
    pitch, scale = (8, 1) if page.fine else (16, 2)
    for r, row in enumerate(page.rows):
        for c, glyph in enumerate(row):
            x, y = c * pitch + rng.integers(0, 4), r * pitch + rng.integers(0, 2)
            _write(canvas, glyph, x, y, scale, ink)


def _table_size(side, scale):
    """Columns and lines that fit, beside the names."""
    return side // (20 * scale) - 1, side // (12 * scale) - 1


def _table(rng, table, canvas, ink):
    side = len(canvas)
    fits = _table_size(side, 2)
    large = len(table.columns) <= fits[0] and len(table.lines) <= fits[1]
    scale = 2 if large and rng.random() < 0.7 else 1
    across, down = 20 * scale, 12 * scale
    pale = 0.5 * (ink + canvas[0, 0])
    width, height = across * (len(table.columns) + 1), down * (len(table.lines) + 1)
    left = int(rng.integers(0, side - width + 1))
    top = int(rng.integers(0, side - height + 1))
    for r in range(len(table.lines) + 1):
        canvas[top + r * down, left:left + width] = pale
    for c in range(len(table.columns) + 1):
        canvas[top:top + height, left + c * across] = pale
    for c, name in enumerate(table.columns):
        _write(canvas, name, left + (c + 1) * across + 6 * scale, top + 3 * scale, scale, ink)
    for r, (name, cells) in enumerate(zip(table.lines, table.cells)):
        y = top + (r + 1) * down + 3 * scale
        _write(canvas, name, left + 6 * scale, y, scale, ink)
        for c, text in enumerate(cells):
            _write(canvas, text, left + (c + 1) * across + 5 * scale, y, scale, ink)


def _chart(rng, chart, canvas, ink):
    side = len(canvas)
    left, floor = side // 14, side - side // 14
    unit = (floor - side // 14) / MOST
    pale = 0.25 * ink + 0.75 * canvas[0, 0]
    for line in range(1, MOST + 1):
        canvas[int(floor - line * unit), left:] = pale
    canvas[floor, left:] = ink
    canvas[:floor, left] = ink
    pitch = (side - left - 2) / len(chart.bars)
    wide = pitch * rng.uniform(0.5, 0.8)
    for number, (color, height) in enumerate(chart.bars):
        x = left + 2 + number * pitch + (pitch - wide) / 2
        top = int(floor - height * unit)
        canvas[top:floor, int(x):int(x + wide)] = ink   # an edge, for a white bar on white paper
        canvas[top + 1:floor, int(x) + 1:int(x + wide) - 1] = RGB[color]
