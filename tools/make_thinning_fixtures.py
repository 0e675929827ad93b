#!/usr/bin/env python3
"""Expected outputs of caches thinned behind the prompt: thinning.json and thinning.safetensors.

    make_thinning_fixtures.py [--out tests/fixtures]

Values come from the float64 reference. A row goes to the most similar of those that stay in every layer and head, some
thousand times a prompt, so that the cases are for F32 files. Pictures and prompts are searched until all these
choices, and the rows that stay, are the same when scores and keys are moved by `NUDGE` of their mean, `DRAWS` times.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from make_fixtures import Pair, pixels_of, tokens_of
from make_strategy_fixtures import DRAWS, NUDGE, SEEDS
from reference_model.arithmetic import SINGLE
from reference_model.thinning import nearest, thinned_step
from seed_search import first_seed

WAYS = {"look-m": "pivotal", "look-m-averaged": "averaged", "look-m-weighted": "weighted"}
FOLLOWING = 11
# Pair, pixels across and down, and the share of rows that goes from each stretch of layers.
PLAN = [
    ("siglip-qwen2", 80, 80, {0: 0.6, 2: 0.5, 6: 0.8}),
    ("clip-llama", 80, 80, {0: 0.8}),
    ("qwen2vl", 112, 96, {0: 0.7, 5: 0.7}),
]


def moved(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    sign = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
    return x + NUDGE * x.abs().mean() * sign


def firm(step, latest: int) -> bool:
    """Whether all choices of a step are the same however its inputs move."""
    generator = torch.Generator().manual_seed(0)
    cells, gone, stay = step.inputs
    for _ in range(DRAWS):
        again = thinned_step(step.layer, moved(step.scores, generator), len(step.merged), latest)
        if (again.kept, again.merged) != (step.kept, step.merged):
            return False
        for keys, _ in cells:
            if nearest(moved(keys, generator), gone, stay)[0] != nearest(keys, gone, stay)[0]:
                return False
    return True


def case(pair: Pair, name: str, nx: int, ny: int, shares: dict[int, float], tensors: dict) -> dict:
    model = pair.reference("f32", SINGLE, "last")
    pixels = pixels_of(1, nx, ny)
    encoded = model.encoder.encode(pixels, {}, "faithful")
    n = len(encoded.embeddings)
    gone = {layer: round(share * n) for layer, share in shares.items()}

    def attempt(seed: int):
        tokens = tokens_of(seed)
        prompt = model.prompt(encoded, *tokens)
        result = model.decoder.prefill_thinned(prompt, gone, WAYS[name], FOLLOWING)
        rows = len(prompt.positions)
        latest = {s.layer: max(0, rows * (n - len(s.merged)) // (2 * n) - len(tokens[1])) for s in result[1]}
        return (tokens, prompt, result) if all(firm(s, latest[s.layer]) for s in result[1]) else None

    tokens, prompt, (logits, steps, following) = first_seed(SEEDS, attempt, f"{pair.name} {name}: no firm prompt")[1]
    label = f"{pair.name}.{name}"

    def store(key: str, value: torch.Tensor) -> str:
        tensors[f"{label}.{key}"] = value.float().contiguous()
        return f"{label}.{key}"

    key = f"{pair.name}.pixels"
    tensors[key] = pixels
    entry = {
        "name": label,
        "pair": pair.name,
        "strategy": name,
        "type": "f32",
        "pixels": key,
        "nx": nx,
        "ny": ny,
        "grid": "faithful",
        "class_token": "last",
        "before": tokens[0],
        "after": tokens[1],
        "decoder": [{"layer": layer, "r": 0} for layer in gone if layer > 0],
        "score": "prompt",
        "cells": encoded.cells,
        "thinned": list(gone.values()),
        "steps": [
            {
                "half": "decoder",
                "layer": step.layer,
                "n_in": n,
                "kept": step.kept,
                "merged": step.merged,
                "scores": store(f"{i}.scores", step.scores),
                "residual": store(f"{i}.rows", step.residual),
            }
            for i, step in enumerate(steps)
        ],
        "logits": store("logits", logits),
        "following": FOLLOWING,
        "logits_following": store("logits_following", following),
    }
    if model.decoder.sections is not None:
        entry["positions"] = prompt.positions.T.int().tolist()
    print(f"  {label:36s} {n:4d} tokens", flush=True)
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors: dict[str, torch.Tensor] = {}
    cases, digests = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for pair_name, nx, ny, shares in PLAN:
            pair = Pair(pair_name, Path(folder) / pair_name)
            cases += [case(pair, name, nx, ny, shares, tensors) for name in WAYS]
            digests[pair_name] = pair.digests()
    save_file(tensors, args.out / "thinning.safetensors")
    (args.out / "thinning.safetensors").chmod(0o644)
    index = {
        "made_by": "tools/make_thinning_fixtures.py",
        "tensors": "thinning.safetensors",
        "sha256": digests,
        "cases": cases,
    }
    text = json.dumps(index, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (args.out / "thinning.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
