"""Endless batches of rendered pictures with their packed questions and their facts."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from . import dense, scenes, tasks
from .vocabulary import ASSISTANT, END, PAD, encode

IGNORED = -100
PACKED = 144        # tokens of questions and answers behind a picture
MOST_FACTS = 256    # texts that a batch is compared with
FACT_TOKENS = 8


@dataclass
class Item:
    """One prompt and what it shows: `views` is uint8 [pictures or frames, side, side, 3].

    `shares` is how much of each patch things cover, None if there is no ground; `facts` are all true ones,
    and some false.
    """
    views: np.ndarray
    questions: list
    shares: np.ndarray = None
    facts: tuple = field(default=(frozenset(), ()))


def scene_item(rng, g, most_questions=16):
    most = 3 if rng.random() < 0.3 else 5
    scene = scenes.random_scene(rng, most=most, smallest=g.smallest)
    picture, covers = scenes.render_scene(scene, g.side)
    questions = tasks.several(rng, lambda r: tasks.scene_question(r, scene), most_questions, 60)
    return Item(picture[None], questions, scenes.shares(covers, g.grid), tasks.scene_facts(rng, scene))


def dense_picture(rng, g):
    which = rng.integers(8)
    if which < 4:
        return dense.random_page(rng, g, fine=which >= 2)
    return dense.random_table(rng, g) if which < 6 else dense.random_chart(rng)


def dense_item(rng, g, most_questions=16):
    picture = dense_picture(rng, g)
    questions = tasks.several(rng, lambda r: tasks.dense_question(r, picture), most_questions, 40)
    return Item(dense.render(rng, picture, g.side)[None], questions, None, tasks.dense_facts(rng, picture))


def pair_item(rng, g, most_questions=8):
    pair = [scenes.random_scene(rng, 1, 4, smallest=g.smallest) for _ in range(2)]
    if rng.random() < 0.4:      # something in common, so that "both" is an answer
        shared = pair[0].things[0]
        others = [t for t in pair[1].things if scenes.apart(t, shared)]
        pair[1] = replace(pair[1], things=(shared, *others))
    questions = tasks.several(rng, lambda r: tasks.pair_question(r, *pair), most_questions, 20)
    return Item(np.stack([scenes.render_scene(s, g.side)[0] for s in pair]), questions)


def video_item(rng, g, _=None):
    frames, thing, direction = scenes.moving(rng, g.frames, g.smallest)
    views = np.stack([scenes.render_scene(s, g.side)[0] for s in frames])
    return Item(views, tasks.video_questions(thing, direction))


def pack(questions, length=PACKED, rng=None):
    """Lays questions and answers side by side in `length` tokens, as far as they fit.

    Gives ids, targets (IGNORED: nothing is to be learned), segments (-1 is padding) and positions within
    the segment, each [length]. The questions taken follow.  `rng` rewords them.
    """
    ids = np.full(length, PAD)
    targets, segments = np.full(length, IGNORED), np.full(length, -1)
    positions, taken, at = np.zeros(length, np.int64), [], 0
    for q in questions:
        asked = [*encode(tasks.reworded(rng, q.text) if rng else q.text), ASSISTANT]
        answer = [*encode(q.spoken), END]
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


def stack(items, rng=None, length=PACKED):
    """(tensors, [kinds of each item's questions]) of items with equally many views."""
    packed = [pack(item.questions, length, rng) for item in items]
    arrays = dict(zip(("ids", "targets", "segments", "positions"), zip(*(p[:4] for p in packed))))
    batch = {name: torch.from_numpy(np.stack(value)) for name, value in arrays.items()}
    batch["views"] = torch.from_numpy(np.stack([item.views for item in items]))
    return batch, [[q.kind for q in p[4]] for p in packed]


def facts(rng, items):
    """Texts as ids [texts, FACT_TOKENS] and which of them are true of which item,
    [items, texts]: the false ones of all items, and as many true ones as there is room for."""
    texts = list(dict.fromkeys(text for item in items for text in item.facts[1]))[:MOST_FACTS // 2]
    true = [sorted(item.facts[0]) for item in items]
    room = (MOST_FACTS - len(texts)) // len(items)
    for each in true:
        texts += [each[i] for i in rng.permutation(len(each))[:room]]
    texts = list(dict.fromkeys(texts))
    ids = np.full((len(texts), FACT_TOKENS), PAD)
    for row, text in zip(ids, texts):
        tokens = encode(" " + text)
        row[:len(tokens)] = tokens
    holds = np.array([[text in item.facts[0] for text in texts] for item in items], np.float32)
    return torch.from_numpy(ids), torch.from_numpy(holds)


class Batches(torch.utils.data.IterableDataset):
    """Lists of (batch, kinds): pictures alone, with their facts; and, if `several`, a pair or a
    video in every step.  A quarter of the pictures alone are dense."""

    def __init__(self, geometry, size, several, seed, start):
        self.g, self.size, self.several, self.seed = geometry, size, several, (seed, start)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((*self.seed, worker.id if worker else 0))
        more = max(1, self.size // 8) if self.several else 0
        crowd = max(1, (self.size - more) // 4)
        while True:
            items = [scene_item(rng, self.g) for _ in range(self.size - more - crowd)]
            items += [dense_item(rng, self.g) for _ in range(crowd)]
            batch, kinds = stack(items, rng)
            batch["facts"], batch["holds"] = facts(rng, items)
            found = [(batch, kinds)]
            if more:
                one = (pair_item, video_item)[rng.integers(2)]
                found.append(stack([one(rng, self.g) for _ in range(more)], rng))
            yield found
