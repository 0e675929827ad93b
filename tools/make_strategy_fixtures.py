#!/usr/bin/env python3
"""Expected outputs of the comparison strategies: strategies.json and strategies.safetensors.

    make_strategy_fixtures.py [--out tests/fixtures]

Values come from the float64 reference, as those of make_fixtures.py do, and no choice may hang on rounding
here either. Pictures and prompts are searched until every step decides alike when its similarities, scores
and sizes are moved. They move by `MARGIN` times what the rounding of an F16 run moves them, up or down at
random, `DRAWS` times over. One picture serves as many strategies of a pair as it can. K-means decides
hundreds of times a step, always somewhere by less than an F16 run rounds: its cases are for F32 files, in the
very roundings of a CPU (GELU's table), and moved by `NUDGE` of the values' mean.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from make_fixtures import MARGIN, Pair, pixels_of, tokens_of
from reference import Reference
from reference_model.arithmetic import EXACT, HALF, SINGLE
from reference_model.merge import Step
from reference_model.strategies import Inputs, Rule, decide
from seed_search import first_seed

DRAWS = 60
NUDGE = 5e-5
SEEDS = 1000
PLAIN = [Rule(name) for name in ("prune", "kmeans", "greedy")] + [Rule("random", 7)]
METHODS = [
    Rule("visionzip"),
    Rule("prune", behind=True),
    Rule("prune", score="last-token"),
    Rule("sparsevlm", score="raters"),
    Rule("prune", score="question", mass=0.9),
]
SIZED = [Rule(name, sizes=True) for name in ("bipartite", "assign")]
RUNS = [(t, rounding) for t in ("f32", "f16") for rounding in (EXACT, SINGLE, HALF)]

def f32_only(rule: Rule) -> bool:
    return rule.name == "kmeans"


def runs_of(rule: Rule) -> tuple[tuple[str, str], tuple[str, str]]:
    """The computation that is expected, and the coarsest whose rounding decisions must bear."""
    return (("f32", SINGLE), ("f32", SINGLE)) if f32_only(rule) else (("f32", EXACT), ("f16", HALF))


def nudged(inputs: Inputs) -> Inputs:
    return replace(inputs, features=inputs.features + NUDGE * inputs.features.abs().mean())


def moved(exact: Inputs, half: Inputs, generator: torch.Generator) -> Inputs:
    def move(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sign = torch.randint(0, 2, a.shape, generator=generator) * 2 - 1
        return a + MARGIN * (b - a) * sign

    return replace(
        exact,
        features=move(exact.features, half.features),
        scores=move(exact.scores, half.scores),
        values=None if exact.values is None else move(exact.values, half.values),
    )


def firm(rule: Rule, exact: list[Step], half: list[Step]) -> bool:
    """Whether every step decides alike however rounding falls."""
    generator = torch.Generator().manual_seed(0)
    for a, b in zip(exact, half, strict=True):
        other = nudged(b.inputs) if f32_only(rule) else b.inputs
        if (a.kept, a.groups) != (b.kept, b.groups):
            return False
        # The order of the merged is held, too, if the scores give it.
        decided = decide(rule, a.inputs)
        for _ in range(DRAWS):
            if decide(rule, moved(a.inputs, other, generator)) != decided:
                return False
    return True


def same(steps: list[Step], others: list[Step]) -> bool:
    return [(s.kept, s.merged, s.groups) for s in steps] == [(s.kept, s.merged, s.groups) for s in others]


class Work:
    """One pair's picture size, and what each rule takes away of it."""

    def __init__(self, pair: Pair, grid: str, nx: int, ny: int, step: int):
        self.pair, self.grid, self.size, self.step = pair, grid, (nx, ny), step

    def model(self, kind: str = "f32", rounding: str = EXACT) -> Reference:
        return self.pair.reference(kind, rounding, "last")

    def encoder(self, rule: Rule) -> dict[int, int]:
        if rule.name in ("prumerge", "visionzip") or rule.behind:
            return {self.model().encoder.layers: 3 * self.step}
        if not rule.in_encoder:
            return {}
        return {2: self.step, 4: 2 * self.step}

    def encode(self, pixels, rule, kind="f32", rounding=EXACT):
        model = self.model(kind, rounding)
        return model.encoder.encode(pixels, self.encoder(rule), self.grid, rule=rule)

    def is_firm(self, pixels: torch.Tensor, rule: Rule) -> bool:
        first, coarsest = runs_of(rule)
        exact, half = self.encode(pixels, rule, *first), self.encode(pixels, rule, *coarsest)
        if not firm(rule, exact.steps, half.steps):
            return False
        return f32_only(rule) or all(same(exact.steps, self.encode(pixels, rule, *run).steps) for run in RUNS)

    def decode(self, encoded, tokens, schedule, rule, kind="f32", rounding=EXACT):
        model = self.model(kind, rounding)
        prompt = model.prompt(encoded, *tokens)
        return prompt, *model.decoder.prefill(prompt, schedule, rule.score, rule)

    def prompt_for(self, pixels, schedule, rule):
        first, coarsest = runs_of(rule)
        exact, half = self.encode(pixels, rule, *first), self.encode(pixels, rule, *coarsest)
        others = [] if f32_only(rule) else [(run, self.encode(pixels, rule, *run)) for run in RUNS]

        def attempt(seed: int):
            tokens = tokens_of(seed)
            a = self.decode(exact, tokens, schedule, rule, *first)[2]
            b = self.decode(half, tokens, schedule, rule, *coarsest)[2]
            decided = firm(rule, a, b) and all(
                same(a, self.decode(encoded, tokens, schedule, rule, *run)[2]) for run, encoded in others
            )
            return tokens if decided else None

        return first_seed(SEEDS, attempt, f"{self.pair.name} {rule.name}: no prompt that decides firmly")[1]

    def pictures(self, rules: list[Rule]):
        """Seeds with the rules they serve."""
        left = list(rules)
        for seed in range(SEEDS):
            pixels = pixels_of(seed, *self.size)
            # Late seeds are taken for whatever they can serve.
            wanted = max(1, len(left) - seed // 20)
            served = []
            for at, rule in enumerate(left):
                if self.is_firm(pixels, rule):
                    served.append(rule)
                if len(served) + len(left) - at - 1 < wanted:
                    break
            if len(served) >= wanted:
                yield seed, pixels, served
                left = [rule for rule in left if rule not in served]
            if not left:
                return
        raise SystemExit(f"{self.pair.name}: no picture that decides firmly for {left}")


def step_entry(step: Step, rounded: Step, name: str, tensors: dict) -> dict:
    entry = {
        "half": step.half,
        "layer": step.layer,
        "n_in": step.n_in,
        "kept": step.kept,
        "merged": step.merged,
        "groups": step.groups,
    }
    if rounded.residual is not None:
        tensors[f"{name}.residual"] = rounded.residual.float().contiguous()
        entry["residual"] = f"{name}.residual"
    return entry


def case(work: Work, rule: Rule, pixels_key: str, pixels: torch.Tensor, tensors: dict) -> dict:
    variant = ".sizes" * rule.sizes + ".class" * rule.by_class + ".behind" * rule.behind + ".mass" * (rule.mass > 0)
    variant += f".{rule.score}" * (rule.score != "image")
    name = f"{work.pair.name}.{work.grid}.{rule.name}{variant}"
    full = work.encode(pixels, rule)
    n = len(full.embeddings)
    acts = rule.in_decoder and rule.name != "downsample"
    schedule = {2: round(0.3 * n), 6: round(0.2 * n)} if acts else {}
    tokens = work.prompt_for(pixels, schedule, rule)
    runs = {}
    first = runs_of(rule)[0]
    for kind, rounding in [first] if f32_only(rule) else RUNS:
        encoded = work.encode(pixels, rule, kind, rounding)
        prompt, logits, steps = work.decode(encoded, tokens, schedule, rule, kind, rounding)
        runs[kind, rounding] = (encoded, prompt, logits, steps)
    encoded, prompt, logits, steps = runs[first]
    for run, (other, _, _, others) in runs.items():
        if not same(encoded.steps + steps, other.steps + others):
            raise SystemExit(f"{name}: {run} decides otherwise")

    def store(key: str, value: torch.Tensor) -> str:
        tensors[f"{name}.{key}"] = value.float().contiguous()
        return f"{name}.{key}"

    single = runs["f32", SINGLE]
    all_steps = zip(encoded.steps + steps, single[0].steps + single[3], strict=True)
    entry = {
        "name": name,
        "pair": work.pair.name,
        "strategy": rule.name,
        "seed": rule.seed,
        "count_sizes": rule.sizes,
        "tower_score": "class" if rule.by_class else "received",
        "pixels": pixels_key,
        "nx": pixels.shape[1],
        "ny": pixels.shape[0],
        "grid": work.grid,
        "class_token": "last",
        "before": tokens[0],
        "after": tokens[1],
        "encoder": [{"layer": l, "r": r} for l, r in work.encoder(rule).items()],
        "decoder": [{"layer": l, "r": r} for l, r in schedule.items()],
        "score": rule.score,
        "mass": rule.mass,
        "cells": encoded.cells,
        "steps": [step_entry(a, b, f"{name}.{i}", tensors) for i, (a, b) in enumerate(all_steps)],
        "logits": store("logits", logits),
        "logits_table": store("logits_table", single[2]),
    }
    if f32_only(rule):
        entry["type"] = "f32"
    else:
        entry["logits_f16"] = store("logits_f16", runs["f16", EXACT][2])
    if encoded.sizes is not None:
        entry["sizes"] = encoded.sizes.tolist()
    if work.model().decoder.sections is not None:
        entry["positions"] = prompt.positions.T.int().tolist()
    print(f"  {name:36s} {n:4d} tokens", flush=True)
    return entry


def downsampled(work: Work, tensors: dict) -> dict:
    """A picture of fewer patches than a fixed-size tower has positions for."""
    rule = Rule("downsample")
    small = Work(work.pair, work.grid, 56, 56, 0)
    small.encoder = lambda rule: {}
    key = f"{work.pair.name}.small"
    tensors[key] = pixels_of(1, 56, 56)
    return case(small, rule, key, tensors[key], tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors: dict[str, torch.Tensor] = {}
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        pairs = {name: Pair(name, Path(folder) / name) for name in ("siglip-qwen2", "clip-llama", "qwen2vl")}
        prumerge, bipartite = Rule("prumerge"), Rule("bipartite")
        hired = Rule("prune", by_class=True, behind=True)
        by_class = [Rule("prune", by_class=True), Rule("assign", sizes=True, by_class=True)]
        plan = [
            (Work(pairs["siglip-qwen2"], "faithful", 80, 80, 8), [*PLAIN, bipartite, *SIZED, prumerge, *METHODS]),
            (Work(pairs["clip-llama"], "faithful", 80, 80, 8), [*SIZED, *by_class, prumerge, METHODS[0], hired]),
            (Work(pairs["qwen2vl"], "faithful", 112, 96, 12), [*PLAIN, bipartite, *SIZED, prumerge, *METHODS]),
            (Work(pairs["qwen2vl"], "reference", 112, 96, 8), SIZED[:1]),
        ]
        for work, rules in plan:
            for seed, pixels, served in work.pictures(rules):
                key = f"{work.pair.name}.{work.grid}.{seed}"
                tensors[key] = pixels
                cases += [case(work, rule, key, pixels, tensors) for rule in served]
        for name in ("siglip-qwen2", "clip-llama"):
            cases.append(downsampled(Work(pairs[name], "faithful", 80, 80, 8), tensors))
        digests = {name: pair.digests() for name, pair in pairs.items()}
    save_file(tensors, args.out / "strategies.safetensors")
    (args.out / "strategies.safetensors").chmod(0o644)
    index = {
        "made_by": "tools/make_strategy_fixtures.py",
        "tensors": "strategies.safetensors",
        "margin": MARGIN,
        "sha256": digests,
        "cases": cases,
    }
    text = json.dumps(index, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (args.out / "strategies.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
