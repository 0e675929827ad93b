"""Writes a question set of the kinds that models/demo was asked, which nobody chose anything on:
`python -m demo.fresh FOLDER --seed 7`, or with several seeds for a larger set.

The schedules and thresholds of the program were chosen on models/demo/questions.jsonl; figures on
a set of another seed are held-out ones. Scenes have the kinds and numbers of that set (240 scenes,
60 pages, six questions each), its wording, and pictures drawn alike. The same seed and numpy give
the same files. Each seed adds as many; with several, names begin with their seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from . import dense, scenes, tasks
from .geometry import GEOMETRIES

# models/demo has not learned `relation`, and is asked of every kind about as often.
KINDS = tuple(kind for kind in tasks.SCENE_KINDS if kind != "relation")
SCENES, PAGES, ASKED = 240, 60, 6
# Name that tools/demo gives a page of 7 x 7 and of 14 x 14 characters -> name in that set.
NAMES = {"page": "page7", "fine": "page14"}


def scene(rng, geometry):
    """A picture and its questions. An eighth of the kinds each; what a scene cannot answer is passed over."""
    drawn = scenes.random_scene(rng, smallest=7.5)
    ask = lambda r: tasks.scene_question(r, drawn, KINDS[r.integers(len(KINDS))])
    return scenes.render_scene(drawn, geometry.side)[0], tasks.several(rng, ask, ASKED, 60)


def page(rng, geometry, fine):
    """A page of characters: three of its rows and three of its characters are asked for."""
    drawn = dense.random_page(rng, geometry, fine)
    halves = [tasks.several(rng, lambda r: tasks.dense_question(r, drawn, kind), ASKED // 2, 60) for kind in ("row", "cell")]
    return dense.render(rng, drawn, geometry.side), halves[0] + halves[1]


def draw(seed, share=1.0):
    """Yields (name, picture, questions), `share` of the set."""
    geometry = GEOMETRIES["small"]
    rng = np.random.default_rng((seed, 0))
    for number in range(round(SCENES * share)):
        yield f"scene-{number:03}", *scene(rng, geometry)
    rng = np.random.default_rng((seed, 1))
    for number in range(round(PAGES * share)):
        fine = number % 2 == 1
        yield f"{NAMES['fine' if fine else 'page']}-{number // 2:03}", *page(rng, geometry, fine)


def draw_all(seeds, share):
    """As `draw`, seed by seed."""
    for seed in seeds:
        for name, picture, questions in draw(seed, share):
            yield name if len(seeds) == 1 else f"{seed}-{name}", picture, questions


def write(folder, seeds, share=1.0):
    pictures = folder / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    with open(folder / "questions.jsonl", "w") as lines:
        for name, picture, questions in draw_all(seeds, share):
            Image.fromarray(picture).save(pictures / f"{name}.png", optimize=True)
            for number, q in enumerate(questions):
                sort, _, what = q.kind.partition("_")
                kind = f"{NAMES[sort]}_{what}" if sort in NAMES else q.kind
                line = dict(id=f"{name}-{number}", kind=kind, image=f"images/{name}.png", question=q.text, answer=q.answer)
                lines.write(json.dumps(line) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, nargs="+", required=True)
    a = parser.parse_args()
    write(a.folder, a.seed)


if __name__ == "__main__":
    main()
