"""Second stage: cross entropy of answers through the frozen language model."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from . import pictures
from .merged import merged
from .pictures import KIND, NAME
from .projector import Projector
from .scenes import Scenes
from .text import Text
from .words import Words

def there(kind: str) -> str:
    """The question whether a kind is shown."""
    return f"Is there {pictures.with_article(kind)} in the picture? Answer yes or no."


# Kinds that are not there, asked beside the one that is.
ABSENT = 3


def questions(shown: pictures.CutOut, rng: random.Random) -> list[tuple[str, str]]:
    """Questions about one picture with their answers: its kind, one that is there, some that are not, now and then its name."""
    others = rng.sample([kind for kind in sorted(set(pictures.KINDS.values())) if kind != shown.kind], ABSENT)
    asked = [(KIND, shown.kind), (there(shown.kind), "yes"), *((there(other), "no") for other in others)]
    return [*asked, (NAME, f"{pictures.with_article(shown.name)}.")] if rng.random() < 0.3 else asked


def loss(text: Text, spoken: list[list[tuple[torch.Tensor, torch.Tensor]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of `spoken`, in the order of `questions`, and its parts: kind, yes, no, order, name.

    Yes counts as much as all that are answered no together. Order is the cross entropy of the kind that is there among
    those asked, by how much likelier yes is than no: it falls before either answer is right by itself.
    """
    yes, no = text.tokens("yes")[0], text.tokens("no")[0]
    parts = {name: [] for name in ("kind", "yes", "no", "order", "name")}
    for pairs in spoken:
        each = [F.cross_entropy(logits, said) for logits, said in pairs]
        asked = slice(1, 2 + ABSENT)
        lean = torch.stack([logits[0, yes] - logits[0, no] for logits, _ in pairs[asked]])
        parts["kind"].append(each[0])
        parts["yes"].append(each[1])
        parts["no"].append(torch.stack(each[2 : 2 + ABSENT]).mean())
        parts["order"].append(F.cross_entropy(lean[None], torch.tensor([0])))
        parts["name"] += each[2 + ABSENT :]
    means = torch.stack([torch.stack(values).mean() if values else torch.zeros(()) for values in parts.values()])
    return means @ torch.tensor([1.0, 2.0, 2.0, 0.7, 0.3]), means.detach()


def pooled(rows: torch.Tensor) -> torch.Tensor:
    """Projected rows [B, n, 576] of a square grid, pooled 2 x 2: a quarter of the tokens."""
    across = round(rows.shape[1] ** 0.5)
    return F.avg_pool2d(rows.transpose(1, 2).unflatten(2, (across, across)), 2).flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class Shape:
    """Pictures of a side, how their rows reach the language model, how many at once, and the share of steps."""

    side: int
    # Rows left by merging, least and most; None: no merging.
    left: tuple[int, int] | None
    pool: bool
    batch: int
    share: float


# Merged rows at their own places with their sizes, as the engine's default has them; pooled and whole pictures beside them.
SHAPES = (
    Shape(224, (32, 96), False, 8, 0.6),
    Shape(224, None, True, 8, 0.14),
    Shape(224, None, False, 5, 0.14),
    Shape(336, (64, 144), False, 7, 0.07),
    Shape(336, None, True, 7, 0.02),
    Shape(336, None, False, 2, 0.03),
)


def towards_answers(
    projector: Projector, scenes: dict[int, Scenes], words: Words, text: Text, state_file: Path, minutes: float, rate: float = 6e-4
) -> None:
    """Trains until `minutes` minutes have been spent in all; goes on from `state_file`, which it writes once a minute.

    The rate falls with the time that is spent, so that a slow machine ends as well settled as a fast one.
    """
    optimizer = torch.optim.AdamW(projector.parameters(), rate, weight_decay=0.05)
    step, spent = 0, 0.0
    if state_file.is_file():
        state = torch.load(state_file)
        projector.load_state_dict(state["projector"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    recent, saved, projector = [], spent, projector.train()
    while spent < 60 * minutes:
        begun = time.monotonic()
        rng, generator = random.Random(step), torch.Generator().manual_seed(step)
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 30) * max(0.03, 1 - spent / (60 * minutes))
        shape = rng.choices(SHAPES, [shape.share for shape in SHAPES])[0]
        seen = scenes[shape.side]
        chosen = torch.multinomial(words.weight[: len(seen)], shape.batch, generator=generator).tolist()
        rows, at = seen.rows[chosen].float(), None
        if shape.left is not None:
            at = merged(rows, rng.randint(*shape.left))
            rows = at.rows
        images = projector(rows)
        asked = [questions(seen.shown[i], rng) for i in chosen]
        wrong, parts = loss(text, text.spoken(pooled(images) if shape.pool else images, asked, at))
        rows, kind, name = words.rows(scenes[224], 128, generator)
        total = wrong + 0.1 * words.loss(projector(rows), kind, name)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent += time.monotonic() - begun
        recent = [*recent[-39:], parts]
        if spent - saved > 60 or spent >= 60 * minutes:
            saved = spent
            state = {"projector": projector.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
            torch.save(state, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
            shown = ", ".join(f"{part:.3f}" for part in torch.stack(recent).mean(0))
            print(f"step {step}, minute {spent / 60:.1f} of {minutes:g}: kind, yes, no, order, name {shown}", flush=True)
