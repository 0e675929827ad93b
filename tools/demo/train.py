"""Trains the pair.  From scratch: `python -m demo.train --out DIR`; the same command resumes, and
SIGTERM saves before it ends."""

import argparse
import os
import signal
import time
from collections import defaultdict, deque
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from . import losses
from .batches import IGNORED, Batches
from .model import Llava
from .optimizer import Muon

# Where attention received is held to rank things above ground: the tower's layers that merge, and
# the decoder's layer whose scores a merge before the next one takes.
TOWER_RANKED = (2, 3, 4, 5)
DECODER_RANKED = (1,)


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and log")
    p.add_argument("--init", type=Path, help="weights to start from, if --out has no checkpoint")
    p.add_argument("--steps", type=int, default=40000)
    p.add_argument("--batch", type=int, default=8, help="pictures a step; a quarter are pages")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--workers", type=int, default=0, help="processes that render")
    p.add_argument("--matrix-rate", type=float, default=2e-3)
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--tower-scale", type=float, default=1.0, help="of the tower's rates")
    p.add_argument("--decay", type=float, default=0.35, help="last share of steps, rate to 3 %%")
    p.add_argument("--labels", type=float, default=0.5, help="weight of the patch labels")
    p.add_argument("--ranking", type=float, default=1.0, help="weight of the ranking")
    p.add_argument("--dropout", type=float, default=0.5,
                   help="share of steps whose scenes lose a random part of their tokens")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--save-seconds", type=float, default=120)
    return p.parse_args()


class Trainer:
    def __init__(self, a):
        self.a = a
        torch.manual_seed(a.seed)
        self.model = Llava().to(a.device)
        self.labeller = nn.Linear(self.model.config.tower_width, sum(losses.LABELS)).to(a.device)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.step, self.pictures, self.origin = 0, 0, "random weights"
        matrix = {True: [], False: []}
        other = {True: [], False: []}
        for name, p in self.model.named_parameters():
            inner = p.ndim == 2 and ("layers." in name or name.startswith("project"))
            (matrix if inner else other)[name.startswith("tower.")].append(p)
        other[False] += self.labeller.parameters()

        def groups(split):
            return [dict(params=split[tower], scale=a.tower_scale if tower else 1.0)
                    for tower in (True, False)]

        self.vectors = other[True] + other[False]
        self.muon = Muon(groups(matrix), a.matrix_rate)
        self.adam = torch.optim.AdamW(groups(other), a.rate, betas=(0.9, 0.95), weight_decay=0)
        self.checkpoint = a.out / "checkpoint.pt"
        if self.checkpoint.exists():
            self.load(torch.load(self.checkpoint, map_location=a.device))
        elif a.init:
            start = torch.load(a.init, map_location=a.device)
            self.model.load_state_dict(start["weights"])
            self.labeller.load_state_dict(start["labeller"])
            self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
            self.origin = start["origin"]

    def load(self, state):
        self.model.load_state_dict(state["weights"])
        self.labeller.load_state_dict(state["labeller"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.average = state["average"]
        self.step, self.pictures, self.origin = (state[k] for k in ("step", "pictures", "origin"))
        for optimizer in (self.muon, self.adam):
            for group, scale in zip(optimizer.param_groups, (self.a.tower_scale, 1.0)):
                group["scale"] = scale

    def save(self):
        """Writes beside the checkpoint and renames, so that a kill never leaves half a file."""
        state = dict(config=asdict(self.model.config), weights=self.model.state_dict(),
                     average=self.average, labeller=self.labeller.state_dict(),
                     muon=self.muon.state_dict(), adam=self.adam.state_dict(), step=self.step,
                     pictures=self.pictures, origin=self.origin)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def rates(self):
        done = self.step / self.a.steps
        decay = 1.0 if done < 1 - self.a.decay else max(0.03, (1 - done) / self.a.decay)
        rate = decay * min(1.0, (self.step + 1) / 50)
        for optimizer, base in ((self.muon, self.a.matrix_rate), (self.adam, self.a.rate)):
            for group in optimizer.param_groups:
                group["lr"] = base * rate * group["scale"]
        return done

    def learn(self, batch, rank, dropout):
        """The loss of one batch, its parts, and per question whether it was answered exactly."""
        batch = {k: v.to(self.a.device, non_blocking=True) for k, v in batch.items()}
        model = self.model
        tokens, received = model.tower(batch["pictures"], scored=TOWER_RANKED if rank else ())
        seen, seen_shares = tokens, batch["shares"]
        if dropout:
            kept = random_part(tokens)
            seen = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
            seen_shares = seen_shares.gather(1, kept)
        prefix, scores = model.decoder.prefix(model.projector(seen),
                                              scored=DECODER_RANKED if rank else ())
        hidden = model.decoder.read(prefix, batch["ids"], batch["positions"], batch["segments"])
        logits = model.decoder.logits(hidden[batch["targets"] != IGNORED])
        answer, right = losses.answers(logits, batch)
        loss, parts = answer, dict(answers=answer.item())
        fading = self.a.labels * max(0.0, 1 - self.step / self.a.steps / 0.85)
        if fading > 0:
            label = losses.labels(self.labeller(tokens), batch)
            loss, parts["labels"] = loss + fading * label, label.item()
        if rank:
            for name, found, shares in (("tower", received, batch["shares"]),
                                        ("decoder", scores, seen_shares)):
                order = losses.ranking(found, shares)
                loss, parts[f"rank_{name}"] = loss + self.a.ranking * order, order.item()
        return loss, parts, right

    def update(self, pair):
        """One step on a pair of batches; yields what was learned for the log."""
        self.rates()
        noted = []
        total = sum(len(batch["ids"]) for batch, _ in pair)
        for (batch, kinds), scenes in zip(pair, (True, False)):
            rank = scenes and self.a.ranking > 0 and self.step % 2 == 0
            dropout = scenes and torch.rand(()).item() < self.a.dropout
            loss, parts, right = self.learn(batch, rank, dropout)
            (loss * len(kinds) / total).backward()
            noted.append((parts, kinds, right.tolist(), dropout))
        nn.utils.clip_grad_norm_(self.vectors, 1.0)
        self.muon.step()
        self.adam.step()
        self.muon.zero_grad()
        self.adam.zero_grad()
        with torch.no_grad():
            # Tied embeddings drift into one common direction, which drowns the answers.
            embedding = self.model.decoder.embedding.weight
            embedding.sub_(embedding.mean(0))
            keep = min(0.998, (self.step + 1) / (self.step + 10))
            for name, p in self.model.named_parameters():
                self.average[name].lerp_(p, 1 - keep)
        self.step += 1
        self.pictures += total
        return noted


def random_part(tokens):
    """Indices, ascending, of a random 40 to 100 % of each picture's tokens; as many in each."""
    batch, n, _ = tokens.shape
    count = int((0.4 + 0.6 * torch.rand(()).item()) * n)
    return torch.rand(batch, n, device=tokens.device).argsort(1)[:, :count].sort(1).values


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(a)
    pages = max(1, a.batch // 4)
    data = Batches(a.batch - pages, pages, 144, a.seed, trainer.step)
    loader = iter(torch.utils.data.DataLoader(data, batch_size=None, num_workers=a.workers))
    hits = defaultdict(lambda: deque(maxlen=400))
    seen = defaultdict(lambda: deque(maxlen=200))
    started, first, saved = time.time(), trainer.pictures, time.time()
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    while trainer.step < a.steps and not stopping:
        for parts, kinds, right, dropout in trainer.update(next(loader)):
            for name, value in parts.items():
                seen[name].append(value)
            if not dropout:
                for picture, row in zip(kinds, right):
                    for kind, hit in zip(picture, row):
                        hits[kind].append(hit)
        if trainer.step % 100 == 0 or trainer.step == a.steps:
            report(a.out, trainer, seen, hits, (trainer.pictures - first) / (time.time() - started))
        if time.time() - saved > a.save_seconds or trainer.step == a.steps or stopping:
            trainer.save()
            saved = time.time()


def report(folder, trainer, seen, hits, speed):
    def means(table):
        return " ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in sorted(table.items()))

    line = f"step {trainer.step} {speed:.1f} pictures/s | {means(seen)} | {means(hits)}"
    print(line, flush=True)
    with open(folder / "log.txt", "a") as log:
        log.write(line + "\n")


if __name__ == "__main__":
    main()
