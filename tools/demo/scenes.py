"""Renders scenes of coloured shapes.

Lengths are in units of a 112th of the picture whatever size is rendered, so the same scene can be
drawn at any resolution.
"""

from dataclasses import dataclass, replace

import numpy as np

from .vocabulary import COLORS, SHAPES

UNIT = 112
RGB = {"red": (215, 35, 35), "green": (40, 170, 50), "blue": (40, 70, 220),
        "yellow": (230, 215, 40), "purple": (150, 45, 180), "orange": (240, 135, 25),
        "white": (245, 245, 245), "cyan": (50, 205, 215)}

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
    sharpness: float    # edge steepness; 1 is a ramp of one unit


def random_scene(rng, fewest=1, most=5, smallest=7.0, largest=16.0):
    """A scene of `fewest` to `most` things that do not overlap; `rng` is a numpy Generator."""
    wanted = int(rng.integers(fewest, most + 1))
    related = rng.random() < 0.35   # repeated colours and shapes, so that counting has work to do
    things = []
    for _ in range(60 + 12 * wanted):
        if len(things) == wanted:
            break
        radius = rng.uniform(smallest, largest)
        x, y = rng.uniform(radius + 1, UNIT - radius - 1, 2)
        shape, color = SHAPES[rng.integers(len(SHAPES))], COLORS[rng.integers(len(COLORS))]
        thing = Thing(shape, color, float(x), float(y), float(radius))
        if not all(apart(thing, t) for t in things):
            continue
        if related and things and rng.random() < 0.5:
            other = things[rng.integers(len(things))]
            shape, color = (other.shape, color) if rng.random() < 0.5 else (shape, other.color)
        things.append(replace(thing, shape=shape, color=color))
    sharpness = 1.0 if rng.random() < 0.7 else float(rng.uniform(1, 4))
    return Scene(tuple(things), int(rng.integers(2**31)), sharpness)


def render_scene(scene, side=UNIT):
    """The picture, uint8 [side, side, 3], and each thing's cover of every pixel, [n, side, side]."""
    rng = np.random.default_rng(scene.seed)
    axis = ((np.arange(side, dtype=np.float32) + 0.5) * (UNIT / side) - 0.5).astype(np.float32)
    xs, ys = axis[None, :], axis[:, None]
    picture = _ground(rng, xs, ys, side)
    covers = np.zeros((len(scene.things), side, side), np.float32)
    edge = scene.sharpness * side / UNIT
    for cover, t in zip(covers, scene.things):
        columns = np.flatnonzero(np.abs(axis - t.x) < t.radius + 2)
        rows = np.flatnonzero(np.abs(axis - t.y) < t.radius + 2)
        box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        distance = _distance(t.shape, (axis[columns][None, :] - t.x) / t.radius,
                             (axis[rows][:, None] - t.y) / t.radius)
        cover[box] = np.clip(0.5 - distance * t.radius * edge, 0, 1)
        color = np.array(RGB[t.color]) * rng.uniform(0.85, 1.05) + rng.uniform(-8, 8, 3)
        picture[box] += (color.astype(np.float32) - picture[box]) * cover[box][..., None]
    return np.clip(picture, 0, 255).astype(np.uint8), covers


def shares(covers, grid):
    """How much of each patch things cover, row by row: [grid * grid]."""
    if not len(covers):
        return np.zeros(grid * grid, np.float32)
    step = covers.shape[1] // grid
    each = covers.reshape(-1, grid, step, grid, step).mean((2, 4))
    return each.max(0).reshape(-1).astype(np.float32)


def moving(rng, frames, smallest):
    """A scene of one to three things, one of which moves: (scenes, the thing, direction)."""
    scene = random_scene(rng, 1, 3, smallest=smallest, largest=12.0)
    which = int(rng.integers(len(scene.things)))
    thing = scene.things[which]
    name, (dx, dy) = list(DIRECTIONS.items())[rng.integers(4)]
    room = UNIT - 2 * thing.radius - 4
    way = rng.uniform(0.45, 0.9) * room
    start = thing.radius + 2 + rng.uniform(0, room - way)
    others, found = scene.things[:which] + scene.things[which + 1:], []
    for frame in range(frames):
        along = start + way * frame / max(1, frames - 1)
        at = along if dx + dy > 0 else UNIT - along
        moved = replace(thing, x=at) if dx else replace(thing, y=at)
        found.append(replace(scene, things=(*others, moved)))
    return found, thing, name


DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


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


def apart(a, b):
    """Whether two things keep their distance."""
    return max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius + 2
