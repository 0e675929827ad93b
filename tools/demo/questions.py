"""Writes the fixed question set and its pictures: `python -m demo.questions ../models/demo`.

Drawn from a seed that training never uses; the same numpy gives the same files.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from . import scenes, tasks

SEED = 20_260
SCENES, PER_SCENE = 240, 6
PAGES, PER_PAGE = 30, 6     # of each size
BALANCED = list(tasks.SCENE_KINDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (folder / "images/questions").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    with open(folder / "questions.jsonl", "w") as lines:
        for name, picture, questions in (*_scenes(rng), *_pages(rng)):
            image = f"images/questions/{name}.png"
            Image.fromarray(picture).save(folder / image, optimize=True)
            for number, q in enumerate(questions):
                lines.write(json.dumps(dict(id=f"{name}-{number}", kind=q.kind, image=image,
                                            question=q.text, answer=q.answer)) + "\n")
    _examples(folder / "images")


def _scenes(rng):
    for number in range(SCENES):
        scene = scenes.random_scene(rng)
        picture, _ = scenes.render_scene(scene)
        yield f"scene-{number:03}", picture, _one_of_each(rng, scene)


def _one_of_each(rng, scene):
    """PER_SCENE questions of different kinds; the captions first, since few scenes have one."""
    order = sorted(rng.permutation(BALANCED), key=lambda kind: kind != "caption")
    found = []
    for kind in order:
        question = tasks.scene_question(rng, scene, kind)
        if question and len(found) < PER_SCENE:
            found.append(question)
    return found


def _pages(rng):
    for cells in (7, 14):
        for number in range(PAGES):
            page = scenes.random_page(rng, cells)
            picture = scenes.render_page(rng, page)
            rows = tasks.several(rng, lambda r: tasks.page_question(r, page, 1), PER_PAGE // 2, 20)
            cell = tasks.several(rng, lambda r: tasks.page_question(r, page, 0), PER_PAGE // 2, 20)
            yield f"page{cells}-{number:03}", picture, rows + cell


def _examples(folder):
    """Four pictures to try by hand: a scene at the model's size and at four times it, a crowded
    scene and a page."""
    thing = scenes.Thing
    three = scenes.Scene((thing("star", "yellow", 27, 35, 15), thing("ring", "red", 64, 78, 13),
                          thing("square", "blue", 92, 28, 11)), 7, 1.0)
    five = scenes.Scene((thing("circle", "green", 22, 24, 12), thing("circle", "white", 80, 22, 10),
                         thing("triangle", "orange", 54, 54, 13), thing("cross", "purple", 24, 88, 11),
                         thing("diamond", "cyan", 88, 84, 14)), 15, 1.0)
    rng = np.random.default_rng(3)
    pictures = {"scene": scenes.render_scene(three)[0],
                "scene-448": scenes.render_scene(three, 448)[0],
                "crowd-448": scenes.render_scene(five, 448)[0],
                "page": scenes.render_page(rng, scenes.random_page(rng, 7))}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
