"""First stage: a row that shows a thing is drawn towards the token row of its word, away from all other words.

The language model's input and output share one table of token rows, so no pass through its layers is needed: the loss
is a classification among the table's rows of the kinds, the names and the word for the ground.
"""

import torch
import torch.nn.functional as F

from . import pictures
from .projector import Projector
from .scenes import Scenes
from .text import Text

GROUND = "scenery"
# Divides cosines: how sharply the right word must win.
TEMPERATURE = 0.05


class Words:
    """The table of words and the loss of rows against it."""

    def __init__(self, text: Text, scenes: Scenes):
        kinds = sorted(set(pictures.KINDS.values()))
        names = sorted({cut_out.name for cut_out in scenes.shown})
        with torch.no_grad():
            self.kinds = torch.stack([text.meaning(word) for word in [*kinds, GROUND]])
            self.names = torch.stack([text.meaning(name) for name in names])
        self.norm = self.kinds.norm(dim=1).mean()
        self.kind = torch.tensor([kinds.index(cut_out.kind) for cut_out in scenes.shown])
        self.name = torch.tensor([names.index(cut_out.name) for cut_out in scenes.shown])
        self.ground = len(kinds)
        count = self.kind.bincount(minlength=len(kinds)).float().clamp(min=1)
        # Rare kinds are met more often than their share, but less than evenly: they have few different things.
        self.weight = count[self.kind] ** -0.5
        self.things, self.grounds = scenes.cover > 0.6, scenes.cover < 0.02

    def rows(self, scenes: Scenes, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows [count, 384] with their kinds and names; a quarter shows ground, and its name is -1.

        Half of the things' rows are means of several rows of one thing: merging makes such rows.
        """
        chosen = torch.multinomial(self.weight, count, True, generator=generator)
        kind, name = self.kind[chosen].clone(), self.name[chosen].clone()
        share = self.things[chosen].float()
        single = torch.rand(count, generator=generator) < 0.5
        share *= torch.rand(share.shape, generator=generator) < 0.3
        one = F.one_hot((share + 1e-3 * self.things[chosen] + 1e-6).multinomial(1, generator=generator)[:, 0], share.shape[1]).float()
        share = torch.where(single[:, None] | (share.sum(1, keepdim=True) == 0), one, share)
        bare = torch.arange(count) < count // 4
        grounds = self.grounds[chosen].float() + 1e-6
        share[bare] = F.one_hot(grounds[bare].multinomial(1, generator=generator)[:, 0], share.shape[1]).float()
        kind[bare], name[bare] = self.ground, -1
        rows = torch.einsum("bn,bnd->bd", share / share.sum(1, keepdim=True), scenes.rows[chosen].float())
        return rows, kind, name

    def loss(self, made: torch.Tensor, kind: torch.Tensor, name: torch.Tensor) -> torch.Tensor:
        """Cross entropy of kinds and names by cosine, and the distance from the words' usual length."""
        length = made.norm(dim=1)
        by = [F.normalize(made, dim=1) @ F.normalize(table, dim=1).T / TEMPERATURE for table in (self.kinds, self.names)]
        wrong = F.cross_entropy(by[0], kind, label_smoothing=0.05)
        wrong = wrong + 0.3 * F.cross_entropy(by[1], name, ignore_index=-1, label_smoothing=0.05)
        return wrong + (length / self.norm - 1).square().mean()


def towards_words(projector: Projector, scenes: Scenes, words: Words, steps: int, rate: float = 2e-3, seed: int = 0) -> float:
    """Trains for `steps` steps of 256 rows; returns the mean loss of the last 50."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(projector.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    last = []
    projector.train()
    for _ in range(steps):
        rows, kind, name = words.rows(scenes, 256, generator)
        loss = words.loss(projector(rows), kind, name)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        last = [*last[-49:], loss.item()]
    return sum(last) / len(last)
