"""Trains a pair from nothing: `python -m demo.train --out DIR`.  The same command resumes, and
SIGTERM saves before it ends.

Stage 1 trains the tower alone on texts about whole pictures. It has to end with attention received that
ranks things above ground in the layers that merge tokens, or training stops there. Stage 2 trains projector
and decoder on questions, and the tower gently, as long as that holds.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import defaultdict, deque
from pathlib import Path

import torch
from torch import nn

from .attention import areas
from .batches import FACT_TOKENS, Batches
from .contrast import Contrast, ranked
from .geometry import GEOMETRIES
from .losses import answers
from .model import Llava
from .optimizer import Muon


def arguments(given=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and log")
    p.add_argument("--geometry", choices=GEOMETRIES, default="small")
    p.add_argument("--tower-steps", type=int, default=6000, help="of stage 1")
    p.add_argument("--steps", type=int, default=40000, help="of stage 2")
    p.add_argument("--batch", type=int, default=16, help="prompts a step")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--workers", type=int, default=0, help="processes that render")
    p.add_argument("--matrix-rate", type=float, default=2e-3)
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--tower-scale", type=float, default=0.1, help="of the tower's rates in stage 2")
    p.add_argument("--contrast", type=float, default=0.1, help="weight of stage 1's loss in stage 2")
    p.add_argument("--decay", type=float, default=0.3, help="last share of a stage, rate to 3 %%")
    p.add_argument("--gate", type=float, default=0.7,
                   help="area that attention received has to keep in the layers that merge")
    p.add_argument("--measure", type=int, default=250, help="steps between two looks at that")
    p.add_argument("--save-seconds", type=float, default=120)
    p.add_argument("--pause-file", type=Path, help="while it exists, training sleeps")
    return p.parse_args(given)


class Trainer:
    def __init__(self, a):
        self.a, self.g = a, GEOMETRIES[a.geometry]
        torch.manual_seed(a.seed)
        self.model = Llava(self.g).to(a.device)
        self.contrast = Contrast(self.g, FACT_TOKENS).to(a.device)
        self.step, self.frozen = 0, False
        self.average = self.copy()
        self.passed = None      # the tower that attended as it has to, when it was last looked at
        self.optimise()
        self.checkpoint = a.out / "checkpoint.pt"
        if self.checkpoint.exists():
            self.load(torch.load(self.checkpoint, map_location=a.device))

    def copy(self):
        return {n: p.detach().clone() for n, p in self.model.named_parameters()}

    @property
    def first_stage(self):
        return self.step < self.a.tower_steps

    def optimise(self):
        """Fresh optimisers for what this stage trains."""
        split = defaultdict(list)
        whole = [(f"model.{n}", p) for n, p in self.model.named_parameters()
                 if not self.first_stage or n.startswith("tower.")]
        whole += [(f"contrast.{n}", p) for n, p in self.contrast.named_parameters()]
        for name, p in whole:
            matrix = p.ndim == 2 and ("layers." in name or "project" in name)
            split[matrix, name.startswith("model.tower.")].append(p)
        self.vectors = split[False, True] + split[False, False]

        def groups(matrix):
            return [dict(params=split[matrix, tower], tower=tower) for tower in (True, False)]

        self.muon = Muon(groups(True), self.a.matrix_rate)
        self.adam = torch.optim.AdamW(groups(False), self.a.rate, betas=(0.9, 0.95), weight_decay=0)

    def load(self, state):
        if state["geometry"] != self.g.name:
            sys.exit(f"{self.checkpoint} is of the geometry {state['geometry']}, not {self.g.name}; "
                     "give another --out")
        self.step, self.frozen = state["step"], state["frozen"]
        self.model.load_state_dict(state["weights"])
        self.contrast.load_state_dict(state["contrast"])
        self.average, self.passed = state["average"], state["passed"]
        if state["first_stage"] == self.first_stage:
            self.optimise()
            self.muon.load_state_dict(state["muon"])
            self.adam.load_state_dict(state["adam"])
        else:
            self.optimise()

    def save(self):
        """Writes beside the checkpoint and renames, so that a kill never leaves half a file."""
        state = dict(geometry=self.g.name, weights=self.model.state_dict(), average=self.average,
                     contrast=self.contrast.state_dict(), passed=self.passed, frozen=self.frozen,
                     muon=self.muon.state_dict(), adam=self.adam.state_dict(), step=self.step,
                     first_stage=self.first_stage, seed=self.a.seed, batch=self.a.batch,
                     tower_steps=self.a.tower_steps)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def rates(self):
        first = self.first_stage
        done, length = ((self.step, self.a.tower_steps) if first
                        else (self.step - self.a.tower_steps, self.a.steps))
        share = done / max(1, length)
        rate = 1.0 if share < 1 - self.a.decay else max(0.03, (1 - share) / self.a.decay)
        rate *= min(1.0, (done + 1) / 50)
        for optimizer, base in ((self.muon, self.a.matrix_rate), (self.adam, self.a.rate)):
            for group in optimizer.param_groups:
                gentle = group["tower"] and not first
                group["lr"] = base * rate * (self.a.tower_scale if gentle else 1.0)

    def learn(self, batch, noted):
        """The loss of one batch; what is to be logged goes into `noted`."""
        batch = {k: v.to(self.a.device, non_blocking=True) for k, v in batch.items()}
        views = batch["views"]
        tokens, _ = self.model.tower(views.flatten(0, 1))
        tokens = tokens.unflatten(0, views.shape[:2])
        loss, right = 0.0, None
        if "facts" in batch and (self.first_stage or self.a.contrast > 0):
            texts, logits = self.contrast(tokens[:, 0], batch["facts"], batch["holds"])
            loss = loss + texts * (1.0 if self.first_stage else self.a.contrast)
            noted["texts"].append(texts.item())
            noted["texts ranked"].append(ranked(logits, batch["holds"]))
        if not self.first_stage:
            logits, _ = self.model.answer(self.model.rows(tokens), batch)
            answer, right = answers(logits, batch)
            loss = loss + answer
            noted["answers"].append(answer.item())
        return loss, right

    def update(self, batches, noted, hits):
        """One step."""
        self.rates()
        self.model.tower.requires_grad_(self.first_stage or not self.frozen)
        total = sum(len(batch["ids"]) for batch, _ in batches)
        for batch, kinds in batches:
            kind = torch.device(self.a.device).type
            with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
                loss, right = self.learn(batch, noted)
            (loss * len(kinds) / total).backward()
            for asked, row in zip(kinds, [] if right is None else right.tolist()):
                for name, hit in zip(asked, row):
                    hits[name].append(hit)
        nn.utils.clip_grad_norm_(self.vectors, 1.0)
        for optimizer in (self.muon, self.adam):
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            # Tied embeddings drift into one common direction, which drowns the answers.
            embedding = self.model.decoder.embedding.weight
            embedding.sub_(embedding.mean(0))
            keep = min(0.998, (self.step + 1) / (self.step + 10))
            for name, p in self.model.named_parameters():
                self.average[name].lerp_(p, 1 - keep)
        self.step += 1
        if self.step == self.a.tower_steps:
            self.optimise()

    def gate(self):
        """Areas of all layers, and whether the layers that merge pass.  In stage 2 a tower that
        fails is put back to what last passed, and stays that way."""
        tower, decoder = areas(self.model)
        passes = min(tower[layer] for layer in self.g.gated) >= self.a.gate
        if passes:
            self.passed = {k: v.clone() for k, v in self.model.tower.state_dict().items()}
        elif self.step > self.a.tower_steps and not self.frozen:
            self.frozen = True
            self.model.tower.load_state_dict(self.passed)
            for name, value in self.passed.items():
                if f"tower.{name}" in self.average:
                    self.average[f"tower.{name}"].copy_(value)
        return tower, decoder, passes


def run(a):
    torch.set_num_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(a)
    end = a.tower_steps + a.steps
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    hits = defaultdict(lambda: deque(maxlen=400))
    noted = defaultdict(lambda: deque(maxlen=200))
    loader, stage, saved = None, None, time.time()
    started, first = time.time(), trainer.step
    while trainer.step < end and not stopping:
        if stage != trainer.first_stage:
            stage = trainer.first_stage
            data = Batches(trainer.g, a.batch, not stage, a.seed, trainer.step)
            loader = iter(torch.utils.data.DataLoader(data, batch_size=None, num_workers=a.workers))
        while a.pause_file and a.pause_file.exists() and not stopping:
            time.sleep(2)
        trainer.update(next(loader), noted, hits)
        last_of_stage = trainer.step in (a.tower_steps, end)
        if trainer.step % a.measure == 0 or last_of_stage:
            tower, decoder, passes = trainer.gate()
            speed = (trainer.step - first) * a.batch / (time.time() - started)
            report(a.out, trainer, noted, hits, tower, decoder, passes, speed)
            if trainer.step == a.tower_steps and not passes:
                trainer.save()
                sys.exit(f"the tower does not attend to things in layers {trainer.g.gated} (areas above, "
                         f"{a.gate} is asked for): merging there would remove them; give more --tower-steps")
        if time.time() - saved > a.save_seconds or last_of_stage or stopping:
            trainer.save()
            saved = time.time()


def report(folder, trainer, noted, hits, tower, decoder, passes, speed):
    def means(table):
        return {k: round(sum(v) / len(v), 4) for k, v in sorted(table.items())}

    line = json.dumps({
        "step": trainer.step, "stage": 1 if trainer.step <= trainer.a.tower_steps else 2,
        "prompts_per_second": round(speed, 1), "losses": means(noted), "exact": means(hits),
        "tower_areas": [round(float(v), 3) for v in tower],
        "decoder_areas": [round(float(v), 3) for v in decoder],
        "gate": bool(passes), "tower_frozen": trainer.frozen})
    print(line, flush=True)
    with open(folder / "log.jsonl", "a") as log:
        log.write(line + "\n")


if __name__ == "__main__":
    run(arguments())
