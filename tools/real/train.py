"""Trains the projector: first towards the words for what a patch shows, then on answers through the language model.

The tower is frozen, so its rows are computed once and kept. The first stage needs no language model but its table of
token rows, takes two minutes and spares the second most of its way.
"""

from pathlib import Path

import numpy as np
import torch

from . import packages, pictures, scenes
from .answers import towards_answers
from .export import SIDE
from .gate import gate, probe
from .projector import Projector
from .text import Text
from .words import Words, towards_words

# Pictures of every cut-out by the side of the picture: the 256 tokens that the pair is written for, and 576.
VIEWS = {224: 12, 336: 3}


def train(work: Path, minutes: float) -> dict[str, float]:
    """Runs both stages in `work`, resumes what was interrupted, and returns the gate's figures."""
    wheels, debs = work / "wheels", work / "deb"
    graph = packages.member(packages.TOWER, wheels)
    things, unseen = pictures.split(pictures.cut_outs(packages.debian(packages.DEBIAN[0], debs)), 5)
    grounds, unseen_grounds = pictures.split(pictures.photographs(packages.debian(packages.DEBIAN[1], debs)), 4)
    seen, held_out = {}, {}
    for seed, (side, views) in enumerate(VIEWS.items()):
        seen[side] = scenes.load(work / f"seen-{side}.pt", views * len(things), side, 1 + 2 * seed, things, grounds, graph, True)
        held_out[side] = scenes.load(work / f"unseen-{side}.pt", 2 * len(unseen), side, 2, unseen, unseen_grounds, graph, False)
    text = Text(packages.member(packages.TEXT, wheels))
    words = Words(text, seen[224])
    torch.manual_seed(0)
    projector = Projector()
    state_file = work / "projector.pt"
    if not state_file.is_file():
        print(f"linear probe on the tower: {probe(seen[224], held_out[224]):.2f} of unseen things' kinds", flush=True)
        print(f"towards words: loss {towards_words(projector, seen[224], words, 900):.3f}", flush=True)
    towards_answers(projector, seen, words, text, state_file, minutes)
    np.savez(work / "projector.npz", **{name: value.astype(np.float16) for name, value in projector.tensors().items()})
    asked = {"whole": None, "merged to 96": 96, "merged to 64": 64}
    found = {shown: gate(projector, text, held_out[SIDE], left) for shown, left in asked.items()}
    return {f"{shown}, {name}": share for shown, shares in found.items() for name, share in shares.items()}
