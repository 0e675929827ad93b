"""Shares of right answers about things and photographs that training never saw."""

import random

import torch
import torch.nn.functional as F

from . import pictures
from .answers import KIND, there
from .merged import Merged, merged
from .projector import Projector
from .scenes import Scenes
from .text import Text


def right(
    text: Text, images: torch.Tensor, asked: list[list[tuple[str, str]]], at: Merged | None = None
) -> list[list[bool]]:
    """Whether the greedy answer to each question is the given one to its end.

    Greedy decoding says it exactly if every token of it, the end of the turn too, is the likeliest behind those before.
    """
    with torch.no_grad():
        return [[(logits.argmax(1) == said).all().item() for logits, said in pairs] for pairs in text.spoken(images, asked, at)]


def gate(projector: Projector, text: Text, held_out: Scenes, left: int | None = None) -> dict[str, float]:
    """Shares of right kinds and of right yes or no, the latter once with the kind that is shown and once with another.

    Pictures are shown whole, or merged to `left` rows at their own places with their sizes.
    """
    kinds = sorted(set(pictures.KINDS.values()))
    rng = random.Random(1)
    asked = []
    for shown in held_out.shown:
        other = rng.choice([kind for kind in kinds if kind != shown.kind])
        asked.append([(KIND, shown.kind), (there(shown.kind), "yes"), (there(other), "no")])
    projector.eval()
    marks = []
    for first in range(0, len(held_out), 4):
        rows = held_out.rows[first : first + 4].float()
        at = None if left is None else merged(rows, left)
        with torch.no_grad():
            images = projector(rows if at is None else at.rows)
        marks += right(text, images, asked[first : first + 4], at)
    projector.train()
    share = torch.tensor(marks).float().mean(0)
    return {"kind": share[0].item(), "yes or no": share[1:].mean().item(), "yes": share[1].item(), "no": share[2].item()}


def probe(train: Scenes, held_out: Scenes) -> float:
    """Share of held-out things whose kind a linear model tells from the mean row of the thing: about the tower's own ceiling."""
    kinds = sorted(set(pictures.KINDS.values()))

    def table(scenes: Scenes) -> tuple[torch.Tensor, torch.Tensor]:
        share = (scenes.cover > 0.6).float()
        seen = share.sum(1) > 0
        means = torch.einsum("bn,bnd->bd", share, scenes.rows.float()) / share.sum(1, keepdim=True)
        return means[seen], torch.tensor([kinds.index(cut_out.kind) for cut_out in scenes.shown])[seen]

    x, y = table(train)
    model = torch.nn.Linear(x.shape[1], len(kinds))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.1)
    for _ in range(300):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = table(held_out)
    return (model(x).argmax(1) == y).float().mean().item()
