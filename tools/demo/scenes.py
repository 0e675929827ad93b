"""Renders the two kinds of picture: scenes of coloured shapes, and pages of characters.

Lengths are in units of the model's own 112-pixel picture whatever size is rendered, so the same
scene can be drawn at any resolution.
"""

from dataclasses import dataclass

import numpy as np

from .vocabulary import COLORS, GLYPHS, SHAPES

SIDE = 112          # the model's picture, in pixels
PATCH = 8
GRID = SIDE // PATCH

_RGB = {"red": (215, 35, 35), "green": (40, 170, 50), "blue": (40, 70, 220),
        "yellow": (230, 215, 40), "purple": (150, 45, 180), "orange": (240, 135, 25),
        "white": (245, 245, 245), "cyan": (50, 205, 215)}

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


@dataclass(frozen=True)
class Thing:
    """One coloured shape: its centre and its half width."""
    shape: str
    color: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    things: tuple
    seed: int           # of the ground's texture and of the colours' small variations
    sharpness: float    # edge steepness; 1 is a one-pixel ramp at 112 pixels


def random_scene(rng, fewest=1, most=5, smallest=7.0, largest=16.0):
    """A scene of `fewest` to `most` things that do not overlap; `rng` is a numpy Generator."""
    wanted = int(rng.integers(fewest, most + 1))
    related = rng.random() < 0.35   # repeated colours and shapes, so that counting has work to do
    things = []
    for _ in range(60 + 12 * wanted):
        if len(things) == wanted:
            break
        radius = rng.uniform(smallest, largest)
        x, y = rng.uniform(radius + 1, SIDE - radius - 1, 2)
        if any(max(abs(x - t.x), abs(y - t.y)) < radius + t.radius + 2 for t in things):
            continue
        shape, color = SHAPES[rng.integers(len(SHAPES))], COLORS[rng.integers(len(COLORS))]
        if related and things and rng.random() < 0.5:
            other = things[rng.integers(len(things))]
            shape, color = (other.shape, color) if rng.random() < 0.5 else (shape, other.color)
        things.append(Thing(shape, color, float(x), float(y), float(radius)))
    sharpness = 1.0 if rng.random() < 0.7 else float(rng.uniform(1, 4))
    return Scene(tuple(things), int(rng.integers(2**31)), sharpness)


def render_scene(scene, side=SIDE):
    """The picture, uint8 [side, side, 3], and each thing's cover of every pixel, [n, side, side]."""
    rng = np.random.default_rng(scene.seed)
    axis = ((np.arange(side, dtype=np.float32) + 0.5) * (SIDE / side) - 0.5).astype(np.float32)
    xs, ys = axis[None, :], axis[:, None]
    picture = _ground(rng, xs, ys, side)
    covers = np.zeros((len(scene.things), side, side), np.float32)
    edge = scene.sharpness * side / SIDE
    for cover, t in zip(covers, scene.things):
        columns = np.flatnonzero(np.abs(axis - t.x) < t.radius + 2)
        rows = np.flatnonzero(np.abs(axis - t.y) < t.radius + 2)
        box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        distance = _distance(t.shape, (axis[columns][None, :] - t.x) / t.radius,
                             (axis[rows][:, None] - t.y) / t.radius)
        cover[box] = np.clip(0.5 - distance * t.radius * edge, 0, 1)
        color = np.array(_RGB[t.color]) * rng.uniform(0.85, 1.05) + rng.uniform(-8, 8, 3)
        picture[box] += (color.astype(np.float32) - picture[box]) * cover[box][..., None]
    return np.clip(picture, 0, 255).astype(np.uint8), covers


def patch_labels(scene, covers):
    """Per patch, row by row: shape and colour of the thing that covers it most, counted from 1
    (0 is ground), and the covered share.  Three arrays of GRID * GRID."""
    shape, color = np.zeros((2, GRID * GRID), np.int64)
    share = np.zeros(GRID * GRID, np.float32)
    if scene.things:
        each = covers.reshape(-1, GRID, PATCH, GRID, PATCH).mean((2, 4)).reshape(-1, GRID * GRID)
        top, share = each.argmax(0), each.max(0)
        seen = share > 0.12
        shape[seen] = np.array([SHAPES.index(t.shape) + 1 for t in scene.things])[top[seen]]
        color[seen] = np.array([COLORS.index(t.color) + 1 for t in scene.things])[top[seen]]
    return shape, color, share


def random_page(rng, cells):
    """A page of `cells` x `cells` characters (7 or 14): glyph indices, [cells, cells]."""
    return rng.integers(0, len(GLYPHS), (cells, cells))


def render_page(rng, page):
    """The page's picture, uint8 [SIDE, SIDE, 3]; `rng` gives ink, paper, jitter and noise."""
    cells = len(page)
    pitch, scale = SIDE // cells, 2 if cells == 7 else 1
    free_x, free_y = (pitch - 5 * scale, pitch - 7 * scale)
    bitmaps = _BITMAPS.repeat(scale, 1).repeat(scale, 2)
    cover = np.zeros((SIDE, SIDE), np.float32)
    shifts_x = rng.integers(0, min(free_x, 5) + 1, page.shape)
    shifts_y = rng.integers(0, min(free_y, 2) + 1, page.shape)
    for r in range(cells):
        for c in range(cells):
            top, left = r * pitch + shifts_y[r, c], c * pitch + shifts_x[r, c]
            cover[top:top + 7 * scale, left:left + 5 * scale] = bitmaps[page[r, c]]
    light, dark = rng.uniform(150, 255, 3), rng.uniform(0, 90, 3)
    paper, ink = (light, dark) if rng.random() < 0.5 else (dark, light)
    picture = paper.astype(np.float32) + cover[..., None] * (ink - paper).astype(np.float32)
    if rng.random() < 0.5:
        picture += rng.standard_normal((SIDE, SIDE, 1), np.float32) * rng.uniform(2, 10)
    return np.clip(picture, 0, 255).astype(np.uint8)


def page_labels(page):
    """Per patch, the character it belongs to, counted from 1: [GRID * GRID]."""
    step = GRID // len(page)
    return (page + 1).repeat(step, 0).repeat(step, 1).reshape(-1)


def _ground(rng, xs, ys, side):
    """A grey-ish ground: plain, or with a ramp, waves, a checkerboard, noise."""
    base = rng.uniform(60, 190) if rng.random() < 0.6 else rng.uniform(15, 60)
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = base + rng.uniform(-14, 14, 3)
    texture = ("plain", "ramp", "waves", "checks", "noise")[rng.integers(5)]
    angle = rng.uniform(0, 2 * np.pi)
    along = (xs * np.cos(angle) + ys * np.sin(angle)).astype(np.float32)
    if texture == "ramp":
        picture += (along * rng.uniform(-0.35, 0.35))[..., None].astype(np.float32)
    elif texture == "waves":
        waves = np.sin(along * rng.uniform(0.15, 0.9)) * rng.uniform(4, 14)
        picture += waves[..., None].astype(np.float32)
    elif texture == "checks":
        pitch = int(rng.integers(4, 14))
        checks = ((xs + 0.5) // pitch + (ys + 0.5) // pitch) % 2
        picture += (checks * rng.uniform(6, 20))[..., None].astype(np.float32)
    if texture == "noise" or rng.random() < 0.3:
        picture += rng.standard_normal((side, side, 1), np.float32) * rng.uniform(3, 14)
    return picture


# A star's tip and valley in half widths, and the outward normal of the edge between them.
_TIP, _VALLEY = 1.08, 0.46
_EDGE = np.array((_VALLEY * np.sin(np.pi / 5), _TIP - _VALLEY * np.cos(np.pi / 5)))
_EDGE /= np.hypot(*_EDGE)


def _distance(shape, u, v):
    """Signed distance to the shape's edge, roughly: negative inside; u, v in half widths."""
    au, av = np.abs(u), np.abs(v)
    if shape == "circle":
        return np.hypot(u, v) - 1
    if shape == "square":
        return np.maximum(au, av) - 0.88
    if shape == "triangle":
        return np.maximum(v - 0.8, 0.9 * au - 0.47 * (v + 0.95))
    if shape == "star":
        # Folded into the sector between a tip and a valley, whose one edge is a line.
        turn = np.abs((np.arctan2(u, -v) / (2 * np.pi / 5) + 0.5) % 1 - 0.5) * (2 * np.pi / 5)
        along, across = np.hypot(u, v) * np.cos(turn), np.hypot(u, v) * np.sin(turn)
        return (along - _TIP) * _EDGE[0] + across * _EDGE[1]
    if shape == "cross":
        return np.minimum(np.maximum(au - 1, av - 0.32), np.maximum(av - 1, au - 0.32))
    if shape == "ring":
        return np.abs(np.hypot(u, v) - 0.76) - 0.24
    return 0.75 * (au + av - 1.1)   # diamond
