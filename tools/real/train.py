"""Trains the projector: first towards the words for what a patch shows, then on answers through the language model.

The tower is frozen, so its rows are computed once and kept. The first stage needs no language model but its table of
token rows, takes a minute and spares the second most of its way.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from . import packages, pictures
from .text import Text
from .tower import MEAN, PATCH, STD, WIDTH, Tower, weights

TEXT_WIDTH = 576
# Sides of the training pictures and the share of each; 2x2 pooling makes 64 and 144 tokens of 256 and 576.
SIDES = ((224, 0.7), (336, 0.3))
GROUND = "scenery"


class Projector(torch.nn.Module):
    """LLaVA-1.5's two layers: [n, 384] -> [n, 576]."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(WIDTH, TEXT_WIDTH)
        self.second = torch.nn.Linear(TEXT_WIDTH, TEXT_WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.gelu(self.first(x)))

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights under llama.cpp's names, float32."""
        layers = {"mm.0": self.first, "mm.2": self.second}
        return {
            f"{name}.{part}": getattr(layer, part).detach().numpy().copy()
            for name, layer in layers.items()
            for part in ("weight", "bias")
        }

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        for name, layer in (("mm.0", self.first), ("mm.2", self.second)):
            layer.weight.data = torch.from_numpy(np.array(tensors[name + ".weight"], np.float32))
            layer.bias.data = torch.from_numpy(np.array(tensors[name + ".bias"], np.float32))


@dataclass
class Scene:
    """One picture as the projector sees it."""

    rows: np.ndarray  # [across^2, 384], float16, without the class token
    cover: np.ndarray  # [across^2], the share of each patch that the cut-out covers
    shown: pictures.CutOut


def normalised(picture: Image.Image) -> torch.Tensor:
    """A picture -> [1, 3, side, side] as the tower takes it."""
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255)
    return ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None]


def make_scenes(count: int, seed: int, cut_outs: list, photographs: list, graph: bytes) -> list[Scene]:
    """Composes pictures and takes them through the tower."""
    rng = random.Random(seed)
    tensors = weights(graph)
    towers = {side: Tower.of(tensors, side) for side, _ in SIDES}
    grounds = [Image.open(path).convert("RGB") for path in photographs]
    for ground in grounds:
        ground.thumbnail((1280, 1280))
    scenes = []
    for i in range(count):
        side = rng.choices([side for side, _ in SIDES], [share for _, share in SIDES])[0]
        # Every cut-out in turn: rare kinds are not left to chance.
        shown = cut_outs[i % len(cut_outs)]
        picture, mask = pictures.paste(shown, rng.choice(grounds), side, rng)
        with torch.no_grad():
            rows = towers[side](normalised(picture))[0, 1:]
        across = side // PATCH
        cover = mask.reshape(across, PATCH, across, PATCH).mean((1, 3)).reshape(-1)
        scenes.append(Scene(rows.numpy().astype(np.float16), cover, shown))
    return scenes


def load_scenes(file: Path, count: int, seed: int, cut_outs: list, photographs: list, graph: bytes) -> list[Scene]:
    """The scenes of `file`, made if it is not there."""
    if not file.is_file():
        torch.save(make_scenes(count, seed, cut_outs, photographs, graph), file)
    return torch.load(file, weights_only=False)


def towards_words(projector: Projector, scenes: list[Scene], text: Text, steps: int = 800, seed: int = 0) -> float:
    """First stage: each patch's row towards the words for what it shows; returns the last mean loss."""
    ground = text.meaning(GROUND)
    targets = {c: (text.meaning(c.kind) + text.meaning(c.name)) / 2 for c in {scene.shown for scene in scenes}}
    rows = torch.cat([torch.from_numpy(scene.rows) for scene in scenes])
    cover = torch.cat([torch.from_numpy(scene.cover) for scene in scenes])
    owner = torch.cat([torch.full((len(scene.rows),), i) for i, scene in enumerate(scenes)])
    wanted = torch.stack([targets[scene.shown] for scene in scenes])
    things, grounds = (cover > 0.6).nonzero()[:, 0], (cover < 0.02).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(projector.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    scale = wanted.norm(dim=1).mean()
    last = []
    for _ in range(steps):
        some = things[torch.randint(len(things), (768,), generator=generator)]
        others = grounds[torch.randint(len(grounds), (256,), generator=generator)]
        target = torch.cat([wanted[owner[some]], ground.expand(256, -1)])
        made = projector(rows[torch.cat([some, others])].float())
        loss = (1 - F.cosine_similarity(made, target)).mean() + ((made - target) / scale).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        last = [*last[-49:], loss.item()]
    return sum(last) / len(last)


def budgeted(rows: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Projected rows, most of the time pooled 2x2: training meets 64 to 576 tokens."""
    if rng.random() < 0.75:
        across = round(len(rows) ** 0.5)
        grid = rows.T.reshape(1, -1, across, across)
        return F.avg_pool2d(grid, 2)[0].flatten(1).T
    return rows


def towards_answers(
    projector: Projector, scenes: list[Scene], text: Text, state_file: Path, steps: int, batch: int = 4, rate: float = 3e-4
) -> None:
    """Second stage: cross entropy of answers through the frozen language model. Goes on from `state_file`."""
    optimizer = torch.optim.AdamW(projector.parameters(), rate, weight_decay=0.01)
    begun = 0
    if state_file.is_file():
        state = torch.load(state_file)
        projector.load_state_dict(state["projector"])
        optimizer.load_state_dict(state["optimizer"])
        begun = state["step"]
    recent = []
    for step in range(begun, steps):
        rng = random.Random(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * max(0.05, 1 - step / steps)
        chosen = rng.sample(scenes, batch)
        asked = [pictures.question(scene.shown, rng) for scene in chosen]
        images = [budgeted(projector(torch.from_numpy(scene.rows).float()), rng) for scene in chosen]
        loss = text.loss(images, [question for question, _ in asked], [answer for _, answer in asked])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-49:], loss.item()]
        if (step + 1) % 25 == 0:
            state = {"projector": projector.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
            print(f"step {step + 1} of {steps}: loss {sum(recent) / len(recent):.3f}", flush=True)


def linear_probe(train: list[Scene], held_out: list[Scene]) -> float:
    """Share of held-out things whose kind a linear model on the mean row of the thing tells: the tower's own ceiling."""
    kinds = sorted(set(pictures.KINDS.values()))

    def table(scenes):
        means = [scene.rows[scene.cover > 0.6].astype(np.float32).mean(0) for scene in scenes]
        return torch.from_numpy(np.stack(means)), torch.tensor([kinds.index(scene.shown.kind) for scene in scenes])

    scenes = [scene for scene in train if (scene.cover > 0.6).any()]
    x, y = table(scenes)
    probe = torch.nn.Linear(WIDTH, len(kinds))
    optimizer = torch.optim.AdamW(probe.parameters(), 1e-2, weight_decay=0.1)
    for _ in range(400):
        loss = F.cross_entropy(probe(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = table([scene for scene in held_out if (scene.cover > 0.6).any()])
    return (probe(x).argmax(1) == y).float().mean().item()


def gate(projector: Projector, text: Text, held_out: list[Scene]) -> dict[str, float]:
    """Shares of right answers about things and photographs that training never saw."""
    marks: dict[str, list[bool]] = {"kind": [], "yes or no": []}
    kind_question = "What kind of thing is in the picture? Answer with one word."
    rng = random.Random(1)
    for scene in held_out:
        with torch.no_grad():
            image = projector(torch.from_numpy(scene.rows).float())
        said = text.answer(image, kind_question, 4)
        marks["kind"].append(said.lower().rstrip(".") == scene.shown.kind)
        for there in (True, False):
            other = [kind for kind in sorted(set(pictures.KINDS.values())) if kind != scene.shown.kind]
            asked = scene.shown.kind if there else rng.choice(other)
            said = text.answer(image, f"Is there {pictures.with_article(asked)} in the picture? Answer yes or no.", 3)
            marks["yes or no"].append(said.lower().startswith("yes" if there else "no"))
    return {name: sum(right) / len(right) for name, right in marks.items()}


def train(work: Path, steps: int, count: int = 1092) -> dict[str, float]:
    """Runs both stages in `work`, resumes what was interrupted, and returns the gate's figures."""
    wheels, debs = work / "wheels", work / "deb"
    graph = packages.member(packages.TOWER, wheels)
    text = Text(packages.member(packages.TEXT, wheels))
    things, unseen = pictures.split(pictures.cut_outs(packages.debian(packages.DEBIAN[0], debs)), 5)
    grounds, unseen_grounds = pictures.split(pictures.photographs(packages.debian(packages.DEBIAN[1], debs)), 4)
    scenes = load_scenes(work / "scenes.pt", count, 1, things, grounds, graph)
    held_out = load_scenes(work / "unseen.pt", 2 * len(unseen), 2, unseen, unseen_grounds, graph)
    print(f"linear probe on the tower: {linear_probe(scenes, held_out):.2f} of unseen things' kinds", flush=True)
    projector = Projector()
    state_file = work / "projector.pt"
    if not state_file.is_file():
        torch.manual_seed(0)
        projector = Projector()
        print(f"towards words: loss {towards_words(projector, scenes, text):.3f}", flush=True)
        print(f"after the first stage: {gate(projector, text, held_out[:: 4])}", flush=True)
    towards_answers(projector, scenes, text, state_file, steps)
    np.savez(work / "projector.npz", **projector.tensors())
    return gate(projector, text, held_out)
