"""Endless batches of rendered pictures with their packed questions."""

import numpy as np
import torch

from . import scenes, tasks
from .vocabulary import ASSISTANT, END, PAD, encode

IGNORED = -100


def pack(questions, length, rng=None):
    """Lays questions and answers side by side in `length` tokens, as far as they fit.

    Gives ids, targets (IGNORED where nothing is to be learned), segments (-1 is padding) and
    positions within the segment, each [length], and the questions taken.  `rng` rewords them.
    """
    ids = np.full(length, PAD)
    targets, segments = np.full(length, IGNORED), np.full(length, -1)
    positions, taken, at = np.zeros(length, np.int64), [], 0
    for q in questions:
        asked = [*encode(tasks.reworded(rng, q.text) if rng else q.text), ASSISTANT]
        answer = [*encode(spoken(q)), END]
        end = at + len(asked) + len(answer) - 1
        if end > length:
            continue
        ids[at:end] = (asked + answer)[:-1]
        targets[at + len(asked) - 1:end] = answer
        segments[at:end] = len(taken)
        positions[at:end] = np.arange(end - at)
        taken.append(q)
        at = end
    return ids, targets, segments, positions, taken


def spoken(question):
    """The answer as generated: words carry their leading space, characters have none."""
    return question.answer if question.kind in tasks.PAGE_KINDS else " " + question.answer


class Batches(torch.utils.data.IterableDataset):
    """Pairs (scenes, pages) of batches, each a dict of tensors and the list of question kinds."""

    def __init__(self, scene_count, page_count, length, seed, start):
        self.counts, self.length, self.seed = (scene_count, page_count), length, (seed, start)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((*self.seed, worker.id if worker else 0))
        while True:
            yield tuple(_stack([one(rng, self.length) for _ in range(count)])
                        for one, count in zip((_scene, _page), self.counts))


def _scene(rng, length):
    scene = scenes.random_scene(rng, most=3) if rng.random() < 0.3 else scenes.random_scene(rng)
    picture, covers = scenes.render_scene(scene)
    shape, color, share = scenes.patch_labels(scene, covers)
    questions = tasks.several(rng, lambda r: tasks.scene_question(r, scene), 16, 60)
    return picture, (shape, color, np.zeros_like(shape)), share, pack(questions, length, rng)


def _page(rng, length):
    page = scenes.random_page(rng, 7 if rng.random() < 0.4 else 14)
    none = np.zeros(scenes.GRID ** 2, np.int64)
    questions = tasks.several(rng, lambda r: tasks.page_question(r, page), 16, 40)
    labels = (none, none, scenes.page_labels(page))
    return scenes.render_page(rng, page), labels, none.astype(np.float32), \
        pack(questions, length, rng)


def _stack(rows):
    pictures, labels, shares, packed = zip(*rows)
    ids, targets, segments, positions, taken = zip(*packed)
    arrays = dict(pictures=pictures, labels=labels, shares=shares, ids=ids, targets=targets,
                  segments=segments, positions=positions)
    batch = {name: torch.from_numpy(np.stack(value)) for name, value in arrays.items()}
    return batch, [[q.kind for q in questions] for questions in taken]
