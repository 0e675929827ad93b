"""Accuracy with merging off on a question set, and what attention received ranks first.

`python -m demo.evaluate CHECKPOINT SET`; with merging, `illava eval` does it on the exported pair.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from .attention import areas
from .batches import stack
from .geometry import GEOMETRIES
from .losses import MAX_QUESTIONS, answers
from .model import Llava
from .questions import read

CHUNK = 16


def load(checkpoint):
    """The model with the checkpoint's averaged weights, and the checkpoint."""
    state = torch.load(checkpoint, map_location="cpu")
    model = Llava(GEOMETRIES[state["geometry"]])
    model.load_state_dict(state["average"])
    return model.eval(), state


@torch.no_grad()
def exact(model, items):
    """Per question: (prompt's number, kind, whether the greedy answer is exactly the right one).

    A greedy answer is right on one condition. With the right answer fed in, each of its tokens and
    the end is the most likely next one; no answer has to be generated.
    """
    found = []
    alike = defaultdict(list)
    for number, item in enumerate(items):
        alike[len(item.views)].append((number, item))
    for same in alike.values():
        for start in range(0, len(same), CHUNK):
            numbers, some = zip(*same[start:start + CHUNK])
            batch, kinds = stack(some, length=256)
            views = batch["views"]
            tokens, _ = model.tower(views.flatten(0, 1))
            logits, _ = model.answer(model.rows(tokens.unflatten(0, views.shape[:2])), batch)
            _, right = answers(logits, batch)
            for number, item, asked, row in zip(numbers, some, kinds, right.tolist()):
                if len(asked) != len(item.questions) or len(asked) > MAX_QUESTIONS:
                    raise RuntimeError("a picture has more questions than one pass can take")
                found += [(number, kind, hit == 1) for kind, hit in zip(asked, row)]
    return found


def interval(found, kinds):
    """Mean and 95 % bootstrap interval over pictures of the exact matches of `kinds`, and how
    many questions those are."""
    rows = [(number, hit) for number, kind, hit in found if kind in kinds]
    _, inverse = np.unique([number for number, _ in rows], return_inverse=True)
    sums = np.bincount(inverse, [float(hit) for _, hit in rows])
    counts = np.bincount(inverse)
    drawn = np.random.default_rng(0).integers(0, len(counts), (2000, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return sums.sum() / counts.sum(), *np.percentile(means, (2.5, 97.5)), len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="where demo.questions wrote")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    model, state = load(a.checkpoint)
    found = exact(model, read(a.folder))
    print(f"geometry {state['geometry']}, seed {state['seed']}, step {state['step']} "
          f"({state['tower_steps']} of them the tower's), {state['batch']} prompts each")
    for kind in sorted({kind for _, kind, _ in found}):
        print("%-12s %.3f [%.3f, %.3f]  n %d" % (kind, *interval(found, {kind})))
    tower, decoder = areas(model, 100)
    print("attention received, things against ground: tower",
          *(f"{v:.2f}" for v in tower), "| decoder", *(f"{v:.2f}" for v in decoder))


if __name__ == "__main__":
    main()
