"""Questions about scenes and pages, with their one right answer."""

from dataclasses import dataclass

from .scenes import SIDE
from .vocabulary import COLORS, GLYPHS, NUMBERS, PLURALS, SHAPES

# How often each kind is tried, the harder ones more; a kind that a scene cannot answer is passed
# over, and a question is asked once.
SCENE_KINDS = {"color": 1, "shape": 1, "count_color": 2, "count_shape": 4, "count_all": 4,
               "presence": 2, "place": 2, "caption": 5}
PAGE_KINDS = ("page7_row", "page7_cell", "page14_row", "page14_cell")
KINDS = (*SCENE_KINDS, *PAGE_KINDS)
_WEIGHTED = [kind for kind, weight in SCENE_KINDS.items() for _ in range(weight)]


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    answer: str     # as the model writes it: words, or a row's characters


def _pick(rng, items):
    return items[rng.integers(len(items))]


def scene_question(rng, scene, kind=None):
    """A random question about `scene`, or None if the chosen kind has no clear answer there."""
    kind = kind or _pick(rng, _WEIGHTED)
    asked = _SCENE[kind](rng, scene.things)
    return asked and Question(kind, *asked)


def page_question(rng, page, rows=0.4):
    """A random question about a page; a share `rows` of them asks for a whole row."""
    cells = len(page)
    line, place = ("row", "column") if cells == 7 else ("line", "place")
    r, c = rng.integers(cells, size=2)
    if rng.random() < rows:
        answer = "".join(GLYPHS[g] for g in page[r])
        return Question(f"page{cells}_row", f"Read {line} {NUMBERS[r + 1]}", answer)
    text = f"Read {line} {NUMBERS[r + 1]} {place} {NUMBERS[c + 1]}"
    return Question(f"page{cells}_cell", text, GLYPHS[page[r, c]])


def several(rng, ask, most, tries):
    """Up to `most` different questions from `tries` calls of ask(rng)."""
    found = {}
    for _ in range(tries):
        question = ask(rng)
        if question:
            found.setdefault(question.text, question)
        if len(found) == most:
            break
    return list(found.values())


def reworded(rng, text):
    """The question as different people would type it after the picture: capital or not, with its
    mark or without, after nothing, a space or a new line.

    A page's characters are found by their distance from the question, so there a token more or
    less is a harder matter, and rarer.
    """
    page = text.startswith("Read")
    rare = 0.15 if page else 0.4
    if rng.random() < rare:
        text = text[0].lower() + text[1:]
    if rng.random() < rare:
        text = text + "." if page else text[:-1]
    if rng.random() < 0.3:
        text = text.replace(" are there", "")
    if rng.random() < rare:
        text = " \n"[rng.integers(2)] + text
    return text


def _unique(things, attribute):
    values = [getattr(t, attribute) for t in things]
    return [t for t in things if values.count(getattr(t, attribute)) == 1]


def _color(rng, things):
    known = _unique(things, "shape")
    if not known:
        return None
    thing = _pick(rng, known)
    return f"What color is the {thing.shape}?", thing.color


def _shape(rng, things):
    known = _unique(things, "color")
    if not known:
        return None
    thing = _pick(rng, known)
    return f"What shape is the {thing.color} object?", thing.shape


def _count_color(rng, things):
    color = _pick(rng, things).color if rng.random() < 0.8 else _pick(rng, COLORS)
    count = sum(t.color == color for t in things)
    return f"How many {color} objects are there?", NUMBERS[count]


def _count_shape(rng, things):
    shape = _pick(rng, things).shape if rng.random() < 0.8 else _pick(rng, SHAPES)
    count = sum(t.shape == shape for t in things)
    return f"How many {PLURALS[SHAPES.index(shape)]} are there?", NUMBERS[count]


def _count_all(rng, things):
    return "How many objects are there?", NUMBERS[len(things)]


def _presence(rng, things):
    """Half of the time a thing that is there; else one that shares a colour or a shape with one
    that is, so that "no" takes a look at both."""
    there = {(t.color, t.shape) for t in things}
    color, shape = _pick(rng, sorted(there))
    present = rng.random() < 0.5
    if not present:
        for _ in range(20):
            thing, which = _pick(rng, things), rng.random()
            color = _pick(rng, COLORS) if which > 0.4 else thing.color
            shape = _pick(rng, SHAPES) if which < 0.4 or which > 0.8 else thing.shape
            if (color, shape) not in there:
                break
        else:
            return None
    article = "an" if color == "orange" else "a"
    return f"Is there {article} {color} {shape}?", "yes" if present else "no"


def _place(rng, things):
    clear = [t for t in things if min(abs(t.x - SIDE / 2), abs(t.y - SIDE / 2)) > 5]
    named = [(f"the {t.shape}", t) for t in _unique(things, "shape") if t in clear]
    named += [(f"the {t.color} object", t) for t in _unique(things, "color") if t in clear]
    if not named:
        return None
    name, thing = _pick(rng, named)
    vertical = "top" if thing.y < SIDE / 2 else "bottom"
    return f"Where is {name}?", f"{vertical} {'left' if thing.x < SIDE / 2 else 'right'}"


def _caption(rng, things):
    """At most three things, from left to right, at least ten pixels apart: one right answer."""
    row = sorted(things, key=lambda t: t.x)
    if len(row) > 3 or any(b.x - a.x < 10 for a, b in zip(row, row[1:])):
        return None
    return "Describe the image.", ", ".join(f"{t.color} {t.shape}" for t in row)


_SCENE = {"color": _color, "shape": _shape, "count_color": _count_color,
          "count_shape": _count_shape, "count_all": _count_all, "presence": _presence,
          "place": _place, "caption": _caption}
