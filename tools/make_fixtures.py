#!/usr/bin/env python3
"""Expected outputs of merging: per test pair a JSON of cases and a safetensors file.

    make_fixtures.py [--out tests/fixtures] [--pair NAME]

The models are not committed: the JSON holds the SHA-256 of each generated file,
and tests call the generator. Values come from the float64 reference on the F32
files, twice: exact, and (`..._table`) with the roundings to f16 that a CPU run
of an F32 file makes, GELU's table (see reference_model/arithmetic.py).

Which tokens merge is decided by an order, and an order must not hang on rounding. Inputs are searched (seed by seed)
until neighbouring scores among the r + 1 merged tokens and the first survivor are far apart. The least distance is
`MARGIN` times the largest change that the rounding of an F16 run makes to any of their scores. The script fails if
the three computations disagree on an index, for the F32 or the F16 file.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from make_model import make_pair
from reference import Reference
from reference_model.arithmetic import EXACT, HALF, SINGLE
from reference_model.decoder import Decoder
from reference_model.encoder import Encoded, Encoder
from reference_model.merge import Step, order
from seed_search import first_seed

MARGIN = 3.0
SEEDS = 20000
GENERATED = 4  # greedy tokens after the prompt
LEAD = 0.05  # of the best token over the second, in standard deviations of the logits
BEFORE, AFTER = 6, 9
ORDINARY_TOKENS = 320  # bytes and merged tokens, no special ones
PAIRS = ("siglip-qwen2", "clip-llama", "qwen2vl")


class Pair:
    """The references of one test pair: per file type, per rounding, per place of the class token."""

    def __init__(self, name: str, folder: Path):
        self.name = name
        self.paths = {t: make_pair(folder / t, name, t, t) for t in ("f32", "f16")}
        self._made: dict = {}

    def reference(self, type_name: str, rounding: str, class_token: str) -> Reference:
        key = (type_name, rounding, class_token)
        if key not in self._made:
            self._made[key] = Reference(*self.paths[type_name], rounding, class_token)
        return self._made[key]

    def digests(self) -> dict:
        return {
            f"{t}/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest()
            for t, files in self.paths.items()
            for p in files
        }


def decisive(step: Step) -> list[int]:
    """The merged tokens and the first survivor, least attended first."""
    return order(step.scores)[: len(step.merged) + 1]


def smallest_gap(step: Step) -> float:
    """Smallest relative distance of neighbouring scores that the step's outcome hangs on."""
    low = step.scores[decisive(step)].tolist()
    return min((b - a) / b for a, b in zip(low, low[1:]))


def promising(step: Step) -> bool:
    """Whether the gaps are worth comparing with an F16 run: rounding alone moves scores this far."""
    return smallest_gap(step) >= 1e-3


def largest_change(step: Step, other: Step) -> float:
    low = decisive(step)
    return float(((step.scores - other.scores).abs() / step.scores)[low].max())


def same(steps: list[Step], others: list[Step]) -> bool:
    return [(s.kept, s.merged) for s in steps] == [(s.kept, s.merged) for s in others]


def safe(exact: list[Step], half: list[Step]) -> bool:
    return same(exact, half) and all(
        smallest_gap(a) >= MARGIN * largest_change(a, b) for a, b in zip(exact, half)
    )


def pixels_of(seed: int, nx: int, ny: int) -> torch.Tensor:
    """Noise over a coarse pattern, within the range of preprocessed pixels, f32 [ny, nx, 3].

    Every value is an f16, which the patch convolution makes of it anyway.
    """
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=g) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, (ny, nx), mode="bilinear")[0].permute(1, 2, 0)
    noise = torch.rand(ny, nx, 3, generator=g) * 2 - 1
    return (0.5 * smooth + 0.5 * noise).half().float().contiguous()


def tokens_of(seed: int) -> tuple[list[int], list[int]]:
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, ORDINARY_TOKENS, (BEFORE + AFTER,), generator=g).tolist()
    return ids[:BEFORE], ids[BEFORE:]


class View:
    """One picture under one treatment of the grid and one place of the class token."""

    def __init__(self, pair: Pair, nx: int, ny: int, encoder: dict[int, int], grid: str, class_token: str):
        self.pair, self.size, self.grid, self.class_token = pair, (nx, ny), grid, class_token
        self.encoder = encoder
        self.pixel_seed, self.pixels = self._search()
        self._encoded: dict = {}

    def _encoder(self, type_name: str, rounding: str) -> Encoder:
        return self.pair.reference(type_name, rounding, self.class_token).encoder

    def _search(self) -> tuple[int, torch.Tensor]:
        def attempt(seed: int):
            pixels = pixels_of(seed, *self.size)
            exact = self._encoder("f32", EXACT).encode(pixels, self.encoder, self.grid, promising)
            if exact is None:
                return None
            half = self._encoder("f16", HALF).encode(pixels, self.encoder, self.grid)
            return pixels if safe(exact.steps, half.steps) else None

        return first_seed(SEEDS, attempt, f"{self.pair.name}: no picture with safe gaps")

    def encoded(self, type_name: str, rounding: str, merging: bool) -> Encoded:
        key = (type_name, rounding, merging)
        if key not in self._encoded:
            schedule = self.encoder if merging else {}
            encoder = self._encoder(type_name, rounding)
            self._encoded[key] = encoder.encode(self.pixels, schedule, self.grid)
        return self._encoded[key]

    def decode(self, type_name, rounding, merging, tokens, schedule, score, generated=None):
        model = self.pair.reference(type_name, rounding, self.class_token)
        prompt = model.prompt(self.encoded(type_name, rounding, merging), *tokens, generated)
        return prompt, *model.decoder.prefill(prompt, schedule, score)

    def greedy(self, merging, tokens, schedule, score) -> list[int] | None:
        """The tokens that follow, or None if rounding might choose others."""
        generated: list[int] = []
        for _ in range(GENERATED):
            logits = self.decode("f32", EXACT, merging, tokens, schedule, score, generated)[1]
            best, second = logits.topk(2).values
            if best - second < LEAD * logits.std():
                return None
            generated.append(int(logits.argmax()))
        return generated if len(set(generated)) > 2 else None

    def prompt_for(self, merging: bool, schedule: dict[int, int], score: str):
        """Token ids before and after the picture, and the greedy tokens that follow."""
        def attempt(seed: int):
            tokens = tokens_of(seed)
            exact = self.decode("f32", EXACT, merging, tokens, schedule, score)[2]
            if not all(map(promising, exact)):
                return None
            half = self.decode("f16", HALF, merging, tokens, schedule, score)[2]
            if not safe(exact, half):
                return None
            generated = self.greedy(merging, tokens, schedule, score)
            return None if generated is None else (tokens, generated)

        return first_seed(SEEDS, attempt, f"{self.pair.name}: no prompt with safe gaps")[1]


def step_entry(step: Step) -> dict:
    return {
        "half": step.half,
        "layer": step.layer,
        "n_in": step.n_in,
        "n_out": step.n_out,
        "kept": step.kept,
        "merged": step.merged,
        "into": step.into,
        "smallest_gap": float(f"{smallest_gap(step):.3g}"),
    }


def case(view: View, name: str, merging: bool, decoder: dict[int, int], score: str, tensors: dict) -> dict:
    """One prompt under one schedule: adds its tensors and returns its index entry."""
    tokens, generated = view.prompt_for(merging, decoder, score)
    runs = {
        (t, rounding): view.decode(t, rounding, merging, tokens, decoder, score)
        for t in ("f32", "f16")
        for rounding in (EXACT, SINGLE, HALF)
    }
    prompt, logits, steps = runs["f32", EXACT]
    encoded = view.encoded("f32", EXACT, merging)
    for (t, rounding), (_, _, others) in runs.items():
        if not same(steps, others):
            raise SystemExit(f"{view.pair.name} {name}: {t} {rounding} merges other tokens")
        if not same(encoded.steps, view.encoded(t, rounding, merging).steps):
            raise SystemExit(f"{view.pair.name} {name}: {t} {rounding} encodes other tokens")

    def store(key: str, value: torch.Tensor) -> str:
        tensors[f"{name}.{key}"] = value.float().contiguous()
        return f"{name}.{key}"

    entry = {
        "name": name,
        "pixels": view_key(view),
        "nx": view.size[0],
        "ny": view.size[1],
        "grid": view.grid,
        "class_token": view.class_token,
        "before": tokens[0],
        "after": tokens[1],
        "greedy": generated,
        "encoder": [{"layer": l, "r": r} for l, r in view.encoder.items()] if merging else [],
        "decoder": [{"layer": l, "r": r} for l, r in decoder.items()],
        "score": score,
        "n_tokens": len(encoded.cells),
        "cells": encoded.cells,
        "steps": [step_entry(s) for s in encoded.steps + steps],
        "logits": store("logits", logits),
        "logits_table": store("logits_table", runs["f32", SINGLE][1]),
        "logits_f16": store("logits_f16", runs["f16", EXACT][1]),
    }
    if view.pair.reference("f32", EXACT, view.class_token).decoder.sections is not None:
        entry["positions"] = prompt.positions.T.int().tolist()
    # The rounding of the CPU's GELU table shows in all that follows, and is in these too.
    rounded = view.encoded("f32", SINGLE, merging).steps + runs["f32", SINGLE][2]
    for i in range(len(rounded)):
        entry["steps"][i]["scores"] = store(f"step{i}.scores", rounded[i].scores)
        if rounded[i].residual is not None:
            entry["steps"][i]["residual"] = store(f"step{i}.residual", rounded[i].residual)
    if not decoder:
        single = view.encoded("f32", SINGLE, merging)
        entry["embeddings"] = store("embeddings", encoded.embeddings)
        entry["embeddings_table"] = store("embeddings_table", single.embeddings)
    worst = min((s["smallest_gap"] for s in entry["steps"]), default=float("nan"))
    drift = torch.linalg.norm(runs["f16", HALF][1] - logits) / torch.linalg.norm(logits)
    print(f"  {name:24s} {entry['n_tokens']:4d} tokens, smallest gap {worst:.1e}, F16 drift {drift:.1e}", flush=True)
    return entry


def view_key(view: View) -> str:
    return f"pixels.{view.grid}.{view.class_token}"


def cases_of(view: View, prefix: str, decoder_only: bool, tensors: dict) -> list[dict]:
    """The schedules of one view. Removed amounts are shares of what is there."""
    tensors[view_key(view)] = view.pixels
    full = len(view.encoded("f32", EXACT, False).cells)
    merged = len(view.encoded("f32", EXACT, True).cells)
    image, last = "image", "last-token"

    def early(n: int) -> dict[int, int]:
        return {2: round(0.3 * n)}

    def late(n: int) -> dict[int, int]:
        return {6: round(0.1 * n), 7: round(0.09 * n), 8: round(0.08 * n)}

    entries = [
        case(view, f"{prefix}off", False, {}, image, tensors),
        case(view, f"{prefix}encoder", True, {}, image, tensors),
        case(view, f"{prefix}both", True, early(merged), image, tensors),
        case(view, f"{prefix}both-last-token", True, late(merged), last, tensors),
    ]
    if decoder_only:
        for score in (image, last):
            entries += [
                case(view, f"{prefix}decoder-2-{score}", False, early(full), score, tensors),
                case(view, f"{prefix}decoder-6-7-8-{score}", False, late(full), score, tensors),
            ]
    return entries


def views_of(pair: Pair) -> list[tuple[str, bool, View]]:
    steps = lambda r: {layer: r for layer in (2, 3, 4, 5)}
    if pair.name == "qwen2vl":
        return [
            ("", True, View(pair, 112, 96, steps(16), "faithful", "last")),
            ("reference-", False, View(pair, 112, 96, steps(8), "reference", "last")),
        ]
    views = [("", True, View(pair, 80, 80, steps(12), "faithful", "last"))]
    if pair.name == "clip-llama":
        views.append(("class-first-", False, View(pair, 80, 80, steps(12), "faithful", "first")))
    return views


def make_fixture(name: str, out: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(name, Path(folder))
        for prefix, decoder_only, view in views_of(pair):
            print(f"  picture of seed {view.pixel_seed}", flush=True)
            cases += cases_of(view, prefix, decoder_only, tensors)
        digests = pair.digests()
    path = out / f"{name}.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    index = {
        "made_by": "tools/make_fixtures.py",
        "pair": name,
        "tensors": f"{name}.safetensors",
        "margin": MARGIN,
        "sha256": digests,
        "cases": cases,
    }
    text = json.dumps(index, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (out / f"{name}.json").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--pair", choices=PAIRS, help="one pair only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [args.pair] if args.pair else PAIRS:
        print(name, flush=True)
        make_fixture(name, args.out)


if __name__ == "__main__":
    main()
