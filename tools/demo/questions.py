"""Writes a question set with its pictures: `python -m demo.questions FOLDER --geometry small`.

Drawn from a seed that training never uses; the same numpy gives the same files.  Single pictures
and pairs go to questions.jsonl, which `illava eval --set` reads; videos, as folders of frames, to
videos.jsonl, since `eval` asks about pictures.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from . import batches
from .geometry import GEOMETRIES
from .tasks import Question

SEED = 20_260
# Prompts of each sort and questions asked of each: 5,400 on pictures, 400 on videos.
SORTS = {"scene": (600, 6, batches.scene_item), "dense": (240, 5, batches.dense_item),
         "pair": (200, 3, batches.pair_item), "video": (200, 2, batches.video_item)}


def draw(geometry, share=1.0):
    """Yields (name, Item) for the whole set, or the first `share` of each sort."""
    for place, (sort, (count, asked, make)) in enumerate(SORTS.items()):
        rng = np.random.default_rng((SEED, place))
        for number in range(round(count * share)):
            yield f"{sort}-{number:03}", make(rng, geometry, asked)


def write(folder, geometry, share=1.0):
    pictures = folder / "images/questions"
    pictures.mkdir(parents=True, exist_ok=True)
    with open(folder / "questions.jsonl", "w") as stills, open(folder / "videos.jsonl", "w") as videos:
        for name, item in draw(geometry, share):
            video = name.startswith("video")
            inside = pictures / name if video else pictures
            inside.mkdir(exist_ok=True)
            files = []
            for number, view in enumerate(item.views):
                stem = f"{number:02}" if video else name if len(item.views) == 1 else f"{name}-{'ab'[number]}"
                Image.fromarray(view).save(inside / f"{stem}.png", optimize=True)
                files.append(str((inside / f"{stem}.png").relative_to(folder)))
            for number, q in enumerate(item.questions):
                line = dict(id=f"{name}-{number}", kind=q.kind, images=files, question=q.text,
                            answer=q.answer)
                (videos if video else stills).write(json.dumps(line) + "\n")


def read(folder):
    """The set as [Item], without facts."""
    items = {}
    for name in ("questions.jsonl", "videos.jsonl"):
        for line in (folder / name).read_text().splitlines():
            q = json.loads(line)
            files = tuple(q["images"])
            if files not in items:
                views = np.stack([np.array(Image.open(folder / f).convert("RGB")) for f in files])
                items[files] = batches.Item(views, [])
            items[files].questions.append(Question(q["kind"], q["question"], q["answer"]))
    return list(items.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--geometry", choices=GEOMETRIES, default="small")
    a = parser.parse_args()
    write(a.folder, GEOMETRIES[a.geometry])


if __name__ == "__main__":
    main()
