"""Questions about pictures, with their one right answer, and the facts that a picture shows."""

from dataclasses import dataclass

from .dense import MOST, Chart, Page, Table
from .scenes import UNIT
from .vocabulary import COLORS, GLYPHS, NUMBERS, PLURALS, SHAPES, number

# How often each kind is tried, the harder ones more; a kind that a scene cannot answer is passed
# over, and a question is asked once.
SCENE_KINDS = {"color": 2, "shape": 2, "count_color": 2, "count_shape": 3, "count_all": 3,
               "presence": 2, "place": 2, "relation": 5, "caption": 3}
DENSE_KINDS = ("page_row", "page_cell", "fine_row", "fine_cell", "table_cell", "bar_height",
               "bar_extreme")
SEVERAL_KINDS = ("pair_more", "pair_which", "video_what", "video_way")
KINDS = (*SCENE_KINDS, *DENSE_KINDS, *SEVERAL_KINDS)
_WEIGHTED = [kind for kind, weight in SCENE_KINDS.items() for _ in range(weight)]


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    answer: str     # as the model writes it: words, or characters

    @property
    def spoken(self):
        """The answer as generated: words carry their leading space, characters have none."""
        characters = self.kind in ("page_row", "page_cell", "fine_row", "fine_cell", "table_cell")
        return self.answer if characters else " " + self.answer


def _pick(rng, items):
    return items[rng.integers(len(items))]


def _article(color):
    return "an" if color == "orange" else "a"


def scene_question(rng, scene, kind=None):
    """A random question about `scene`, or None if the chosen kind has no clear answer there."""
    kind = kind or _pick(rng, _WEIGHTED)
    asked = _SCENE[kind](rng, scene.things)
    return asked and Question(kind, *asked)


def dense_question(rng, picture, kind=None):
    """A random question about a page, a table or a chart."""
    return {Page: _page, Table: _table, Chart: _chart}[type(picture)](rng, picture, kind)


def pair_question(rng, first, second, kind=None):
    """A random question about two scenes."""
    if (kind or _pick(rng, ("pair_more", "pair_which"))) == "pair_more":
        a, b = len(first.things), len(second.things)
        answer = "both" if a == b else "first" if a > b else "second"
        return Question("pair_more", "Which image has more objects?", answer)
    there = [{(t.color, t.shape) for t in scene.things} for scene in (first, second)]
    either = sorted(there[0] | there[1])
    color, shape = _pick(rng, either) if rng.random() < 0.8 else (_pick(rng, COLORS), _pick(rng, SHAPES))
    answer = {(1, 1): "both", (1, 0): "first", (0, 1): "second", (0, 0): "neither"}[
        tuple(int((color, shape) in each) for each in there)]
    return Question("pair_which", f"Which image has {_article(color)} {color} {shape}?", answer)


def video_questions(thing, direction):
    return [Question("video_what", "What moves?", f"{thing.color} {thing.shape}"),
            Question("video_way", f"Which way does the {thing.shape} move?", direction)]


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
    reads = text.startswith("Read")
    rare = 0.1 if reads else 0.3
    if rng.random() < rare:
        text = text[0].lower() + text[1:]
    if rng.random() < rare:
        text = text + "." if reads else text[:-1]
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
    return f"Is there {_article(color)} {color} {shape}?", "yes" if present else "no"


def _quarter(thing):
    vertical = "top" if thing.y < UNIT / 2 else "bottom"
    return f"{vertical} {'left' if thing.x < UNIT / 2 else 'right'}"


def _in_a_quarter(thing):
    return min(abs(thing.x - UNIT / 2), abs(thing.y - UNIT / 2)) > 5


def _names(things):
    """(how to call it, thing) for each way to name one thing and no other."""
    named = [(f"the {t.shape}", t) for t in _unique(things, "shape")]
    return named + [(f"the {t.color} object", t) for t in _unique(things, "color")]


def _place(rng, things):
    named = [(name, t) for name, t in _names(things) if _in_a_quarter(t)]
    if not named:
        return None
    name, thing = _pick(rng, named)
    return f"Where is {name}?", _quarter(thing)


def _relation(rng, things):
    """Two things at least twelve units apart along the axis that is asked about."""
    named = [(name, t) for name, t in _names(things) if not name.endswith("object")]
    if len(named) < 2:
        return None
    (one, a), (other, b) = (named[i] for i in rng.permutation(len(named))[:2])
    along = [(a.x - b.x, "left of", "right of"), (a.y - b.y, "above", "below")]
    distance, less, more = along[rng.integers(2)]
    if abs(distance) < 12:
        return None
    words = (less, more)[rng.integers(2)]
    return f"Is {one} {words} {other}?", "yes" if (distance < 0) == (words == less) else "no"


def _caption(rng, things):
    """At most three things, from left to right, at least ten units apart: one right answer."""
    row = sorted(things, key=lambda t: t.x)
    if len(row) > 3 or any(b.x - a.x < 10 for a, b in zip(row, row[1:])):
        return None
    return "Describe the image.", ", ".join(f"{t.color} {t.shape}" for t in row)


_SCENE = {"color": _color, "shape": _shape, "count_color": _count_color,
          "count_shape": _count_shape, "count_all": _count_all, "presence": _presence,
          "place": _place, "relation": _relation, "caption": _caption}


def _page(rng, page, kind):
    size, line, place = ("fine", "line", "place") if page.fine else ("page", "row", "column")
    r, c = (int(n) for n in rng.integers(len(page.rows), size=2))
    if (kind or _pick(rng, ("row", "cell", "cell"))).endswith("row"):
        return Question(f"{size}_row", f"Read {line} {number(r + 1)}", page.rows[r])
    text = f"Read {line} {number(r + 1)} {place} {number(c + 1)}"
    return Question(f"{size}_cell", text, page.rows[r][c])


def _table(rng, table, _):
    r, c = rng.integers(len(table.lines)), rng.integers(len(table.columns))
    return Question("table_cell", f"Read cell {table.lines[r]} {table.columns[c]}", table.cells[r][c])


def _chart(rng, chart, kind):
    if (kind or _pick(rng, ("bar_height", "bar_height", "bar_extreme"))) == "bar_height":
        color, height = _pick(rng, chart.bars)
        return Question("bar_height", f"How high is the {color} bar?", NUMBERS[height])
    word = _pick(rng, ("highest", "lowest"))
    answer = (max if word == "highest" else min)(chart.bars, key=lambda bar: bar[1])[0]
    return Question("bar_extreme", f"What color is the {word} bar?", answer)


def scene_facts(rng, scene):
    """(every fact of the scene, some that are false of it): short texts about the whole picture,
    as captions are.  None says in which patch something is."""
    things = scene.things
    true = {f"{_article(t.color)} {t.color} {t.shape}" for t in things}
    for t in things:
        if _in_a_quarter(t):
            true |= {f"a {t.shape} {_quarter(t)}", f"{t.color} object {_quarter(t)}"}
    for values, plural in (([t.color for t in things], lambda c: f"{c} objects"),
                           ([t.shape for t in things], lambda s: PLURALS[SHAPES.index(s)])):
        true |= {f"{NUMBERS[values.count(v)]} {plural(v)}" for v in set(values)}
    true.add(f"{NUMBERS[len(things)]} objects")
    false = []
    for _ in range(8):
        color, shape = _pick(rng, COLORS), _pick(rng, SHAPES)
        if things and rng.random() < 0.5:
            near = _pick(rng, things)
            color, shape = (near.color, shape) if rng.random() < 0.5 else (color, near.shape)
        quarter = f"{_pick(rng, ('top', 'bottom'))} {_pick(rng, ('left', 'right'))}"
        false.append(_pick(rng, (f"{_article(color)} {color} {shape}", f"a {shape} {quarter}",
                                 f"{color} object {quarter}",
                                 f"{_pick(rng, NUMBERS[1:6])} {color} objects")))
    return true, [text for text in false if text not in true]


def dense_facts(rng, picture):
    """The same for a page, a table or a chart; of a page, which characters a row has."""
    if isinstance(picture, Page):
        line = "line" if picture.fine else "row"
        true = {f"{line} {number(r + 1)} {g}" for r, row in enumerate(picture.rows) for g in row}
        false = [f"{line} {number(int(rng.integers(len(picture.rows))) + 1)} {_pick(rng, GLYPHS)}"
                 for _ in range(16)]
    elif isinstance(picture, Table):
        true = {f"cell {r} {c} {text}" for r, row in zip(picture.lines, picture.cells)
                for c, text in zip(picture.columns, row)}
        true.add(f"{number(len(picture.lines))} row {number(len(picture.columns))} column")
        false = [f"cell {_pick(rng, picture.lines)} {_pick(rng, picture.columns)} {rng.integers(100):02}"
                 for _ in range(12)]
    else:
        true = {f"{color} bar {NUMBERS[height]}" for color, height in picture.bars}
        true |= {f"highest bar {max(picture.bars, key=lambda b: b[1])[0]}",
                 f"lowest bar {min(picture.bars, key=lambda b: b[1])[0]}"}
        false = [f"{_pick(rng, picture.bars)[0]} bar {NUMBERS[rng.integers(1, MOST + 1)]}"
                 for _ in range(8)]
    return true, [text for text in false if text not in true]
