"""Accuracy on the fixed questions and what attention received ranks first.

`python -m demo.evaluate CHECKPOINT ../models/demo [--sweep]`
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import scenes
from .batches import IGNORED, pack
from .losses import MAX_QUESTIONS, answers
from .model import OFF, TOKENS, Llava, Schedule
from .tasks import SCENE_KINDS, Question

CHUNK = 30


def load(checkpoint):
    """The model with the checkpoint's averaged weights, and the checkpoint."""
    state = torch.load(checkpoint, map_location="cpu")
    model = Llava()
    model.load_state_dict(state["average"])
    return model.eval(), state


def read_set(folder):
    """The fixed set as a list of (picture, [Question])."""
    pictures = defaultdict(list)
    for line in (folder / "questions.jsonl").read_text().splitlines():
        q = json.loads(line)
        pictures[q["image"]].append(Question(q["kind"], q["question"], q["answer"]))
    return [(np.array(Image.open(folder / name).convert("RGB")), questions)
            for name, questions in pictures.items()]


@torch.no_grad()
def exact(model, items, schedule=OFF):
    """Per question, in order: (picture's number, kind, whether the greedy answer is exactly the
    right one).  A greedy answer is right if and only if, with the right answer fed in, each of
    its tokens and the end is the most likely next one; so no answer has to be generated."""
    found = []
    for start in range(0, len(items), CHUNK):
        pictures, questions = zip(*items[start:start + CHUNK])
        packed = [pack(each, 160) for each in questions]
        names = ("ids", "targets", "segments", "positions")
        batch = {n: torch.from_numpy(np.stack(a)) for n, a in zip(names, zip(*packed))}
        tokens, _ = model.tower(torch.from_numpy(np.stack(pictures)), schedule)
        prefix, _ = model.decoder.prefix(model.projector(tokens), schedule)
        hidden = model.decoder.read(prefix, batch["ids"], batch["positions"], batch["segments"])
        _, right = answers(model.decoder.logits(hidden[batch["targets"] != IGNORED]), batch)
        for number, (row, asked, taken) in enumerate(zip(right.tolist(), questions, packed)):
            if len(taken[4]) != len(asked) or len(asked) > MAX_QUESTIONS:
                raise RuntimeError("a picture has more questions than one pass can take")
            found += [(start + number, q.kind, hit == 1) for q, hit in zip(asked, row)]
    return found


def interval(found, kinds, base=None):
    """Mean and 95 % bootstrap interval over pictures of the exact matches of `kinds`, or of the
    paired difference to `base`."""
    rows = [(f[0], f[2] - (base[i][2] if base else 0)) for i, f in enumerate(found)
            if f[1] in kinds]
    pictures, inverse = np.unique([r[0] for r in rows], return_inverse=True)
    sums = np.bincount(inverse, [float(r[1]) for r in rows])
    counts = np.bincount(inverse)
    drawn = np.random.default_rng(0).integers(0, len(pictures), (2000, len(pictures)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return sums.sum() / counts.sum(), *np.percentile(means, (2.5, 97.5)), len(rows)


@torch.no_grad()
def areas(model, count=100, seed=77):
    """Area under the curve of attention received, patches of things against bare ground, mean
    over `count` scenes: one per tower layer, then one per decoder layer (image score)."""
    rng = np.random.default_rng(seed)
    drawn = [scenes.random_scene(rng) for _ in range(count)]
    pictures, covers = zip(*(scenes.render_scene(s) for s in drawn))
    shares = np.stack([scenes.patch_labels(s, c)[2] for s, c in zip(drawn, covers)])
    layers = range(len(model.tower.layers))
    tokens, received = model.tower(torch.from_numpy(np.stack(pictures)), scored=layers)
    _, scores = model.decoder.prefix(model.projector(tokens), scored=range(len(model.decoder.layers)))
    return tuple([_area(found[layer].numpy(), shares) for layer in found]
                 for found in (received, scores))


def _area(scores, shares):
    values = []
    for score, share in zip(scores, shares):
        thing, ground = score[share > 0.12], score[share == 0]
        rank = np.concatenate([thing, ground]).argsort().argsort()[:len(thing)] + 1
        wins = rank.sum() - len(thing) * (len(thing) + 1) / 2
        values.append(wins / (len(thing) * len(ground)))
    return float(np.mean(values))


def sweep():
    """Schedules worth comparing, by name: the encoder's half, the decoder's, both."""
    encoder = {f"vit {layers[0]}-{layers[-1]} x {r}": (layers, (r,) * len(layers))
               for layers in ((2, 3, 4, 5), (4, 5, 6, 7), (2, 3, 4, 5, 6, 7)) for r in (6, 12, 18)}
    decoder = {f"llm 2 keep {keep}": ((2,), (keep,)) for keep in (0.7, 0.6, 0.5, 0.4)}
    found = {name: Schedule(*half) for name, half in encoder.items()}
    found |= {name: Schedule((), (), *half) for name, half in decoder.items()}
    for name, half in encoder.items():
        for other, second in decoder.items():
            schedule = Schedule(*half, *second)
            if 0.34 < schedule.tokens()[-1] / TOKENS < 0.51:
                found[f"{name}, {other}"] = schedule
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sweep", action="store_true", help="also with merging, many schedules")
    a = parser.parse_args()
    torch.set_num_threads(1)
    model, state = load(a.checkpoint)
    items = read_set(a.folder)
    off = exact(model, items)
    print(f"step {state['step']}, {state['pictures']} pictures, started from {state['origin']}")
    groups = {"scenes": set(SCENE_KINDS), "pages": {k for _, k, _ in off} - set(SCENE_KINDS)}
    for name, kinds in (*groups.items(), *((k, {k}) for k in sorted({k for _, k, _ in off}))):
        print("%-12s %.3f [%.3f, %.3f]  n %d" % (name, *interval(off, kinds)))
    tower, decoder = areas(model)
    print("attention received, things against ground: tower",
          *(f"{v:.2f}" for v in tower), "| decoder", *(f"{v:.2f}" for v in decoder))
    for name, schedule in (sweep() if a.sweep else {}).items():
        on = exact(model, items, schedule)
        parts = [f"{group} %.3f (%+.3f [%+.3f, %+.3f])" % (
            interval(on, kinds)[0], *interval(on, kinds, off)[:3]) for group, kinds in groups.items()]
        print(f"{name:32} {schedule.tokens()} {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
