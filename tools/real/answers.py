"""Second stage: cross entropy of answers through the frozen language model."""

import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from . import pictures
from .projector import Projector
from .scenes import Scenes
from .text import Text
from .words import Words

KIND = "What kind of thing is in the picture? Answer with one word."
NAME = "What is in the picture?"


def there(kind: str) -> str:
    """The question whether a kind is shown."""
    return f"Is there {pictures.with_article(kind)} in the picture? Answer yes or no."


def questions(shown: pictures.CutOut, rng: random.Random) -> list[tuple[str, str]]:
    """Questions about one picture with their answers: its kind, one that is there, one that is not, now and then its name."""
    other = rng.choice([kind for kind in sorted(set(pictures.KINDS.values())) if kind != shown.kind])
    asked = [(KIND, shown.kind), (there(shown.kind), "yes"), (there(other), "no")]
    return [*asked, (NAME, f"{pictures.with_article(shown.name)}.")] if rng.random() < 0.4 else asked


def pooled(rows: torch.Tensor) -> torch.Tensor:
    """Projected rows [B, n, 576] of a square grid, pooled 2 x 2: a quarter of the tokens."""
    across = round(rows.shape[1] ** 0.5)
    return F.avg_pool2d(rows.transpose(1, 2).unflatten(2, (across, across)), 2).flatten(2).transpose(1, 2)


# Which pictures, whether pooled, how many at once, and the share of steps: 64, 144, 256 and 576 tokens.
SHAPES = ((224, True, 8, 0.72), (336, True, 5, 0.1), (224, False, 3, 0.1), (336, False, 1, 0.08))


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
        side, pool, batch, _ = rng.choices(SHAPES, [shape[3] for shape in SHAPES])[0]
        seen = scenes[side]
        weight = words.weight[: len(seen)]
        chosen = torch.multinomial(weight, batch, generator=generator).tolist()
        images = projector(seen.rows[chosen].float())
        loss = text.loss(pooled(images) if pool else images, [questions(seen.shown[i], rng) for i in chosen])
        rows, kind, name = words.rows(scenes[224], 128, generator)
        total = loss + 0.1 * words.loss(projector(rows), kind, name)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent += time.monotonic() - begun
        recent = [*recent[-39:], loss.item()]
        if spent - saved > 60 or spent >= 60 * minutes:
            saved = spent
            state = {"projector": projector.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
            torch.save(state, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
            print(f"step {step}, minute {spent / 60:.1f} of {minutes:g}: loss {sum(recent) / len(recent):.3f}", flush=True)
