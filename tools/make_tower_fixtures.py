#!/usr/bin/env python3
"""Expected values of the image encoders that merge beside LLaVA's and Qwen2-VL's.

    make_tower_fixtures.py [--out tests/fixtures] [--kind TYPE]

The pairs are those of make_model.py --projector. With merging off: logits after a prompt with one and with two
pictures, from transformers' class of the family (hf_towers.py); the float64 account (reference_model/towers.py) has to
agree with it to 1e-6. With merging: which groups every step keeps, the rows of each span, and the logits. They come
from that account with the roundings to f16 that a CPU run of an F32 file makes.

Pictures are those of family_inputs.py in sizes that nobody resizes; their seed is raised until no
step hangs on rounding.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from family_inputs import picture
from hf_towers import HfTower
from make_model import make_projector
from reference_model.arithmetic import EXACT, SINGLE
from reference_model.decoder import Decoder
from reference_model.encoder import Encoded
from reference_model.strategies import Rule
from reference_model.towers import Tower
from reference_model.weights import Weights
from safe_gaps import far_apart
from seed_search import first_seed

FAITHFUL, REFERENCE = "faithful", "reference"
OWN, CLOSED = "own", "closed"
MERGE, BIPARTITE = Rule(), Rule("bipartite", sizes=True)
SEEDS = 400
BEFORE, BETWEEN, AFTER = [11, 12, 13, 14, 15], [31, 32], [21, 22, 23, 24]
AGREEMENT = 1e-6
WAYS = [(FAITHFUL, OWN, MERGE), (FAITHFUL, OWN, BIPARTITE)]
SINGLES = [*WAYS, (REFERENCE, CLOSED, MERGE)]
# Pictures, the patches that each layer removes, and the ways to merge.
KINDS = {
    "internvl": ([[(64, 64)], [(64, 64), (64, 64)]], {1: 8, 2: 8, 3: 12}, SINGLES),

    "gemma3": None,
    "idefics3": ([[(64, 64)], [(64, 64), (64, 64)]], {1: 8, 2: 8, 3: 12}, SINGLES),
    "pixtral": ([[(64, 48)], [(48, 32), (64, 40)]], {1: 4, 2: 8, 3: 8}, WAYS),
    "mistral_small": ([[(96, 64)], [(64, 48), (96, 64)]], {1: 8, 2: 8, 3: 16}, WAYS),
    "qwen3vl_merger": ([[(80, 64)], [(64, 48), (64, 96)]], {0: 8, 1: 8, 2: 4, 3: 4}, WAYS),
    "qwen2.5vl_merger": ([[(160, 128)], [(96, 64), (64, 144)]], {1: 8, 2: 8, 3: 12}, SINGLES),
}
# Marks that llama.cpp writes before, between and behind the tiles of each picture. Idefics 3 is shown the one tile of a
# grid and, here the same pixels, the whole.
MARKS = {
    "gemma3": (("<start_of_image>",), ("<end_of_image>",)),
    "internvl": (("<img>",), ("</img>",)),
    "idefics3": (
        ("<fake_token_around_image>", "<row_1_col_1>"),
        ("ĊĊ", "<fake_token_around_image>", "<global-img>"),
        ("<fake_token_around_image>",),
    ),
    "pixtral": ((), ("[IMG_END]",)),
    "mistral_small": ((), ("[IMG_END]",)),
    "qwen3vl_merger": (("<|vision_start|>",), ("<|vision_end|>",)),
}


class Pair:
    def __init__(self, kind: str, folder: Path):
        text, mmproj = make_projector(folder, kind)
        self.kind, self.text, self.tower = kind, Weights(text), Weights(mmproj)
        self.towers = {r: Tower(self.tower, r) for r in (EXACT, SINGLE)}
        self.decoders = {r: Decoder(self.text, r) for r in (EXACT, SINGLE)}
        self.model = HfTower(text, mmproj)
        self.axes = self.decoders[EXACT].sections is not None
        names = self.text.fields["tokenizer.ggml.tokens"]
        # Marks around each picture; between its tiles, if it is shown several times.
        self.marks = [[names.index(mark) for mark in marks] for marks in MARKS.get(kind, ((), ()))]

    def pixels(self, size, seed: int) -> torch.Tensor:
        return (torch.tensor(picture(*size, seed)).float() / 255 - 0.5) / 0.5

    def span(self, encoded):
        """Rows of one span, its places with the end, and the size of every row. Marks are token ids, tiles tensors."""
        e = self.broken(encoded)
        counts = e.counts if e.counts is not None else torch.ones(len(e.cells))
        parts, places, sizes, at = [], [], [], 0
        for i, marks in enumerate(self.marks):
            if i > 0:
                parts.append(e.embeddings)
                places += [at + c for c in e.cells]
                sizes.append(counts)
                at += e.rows * e.columns - (e.columns > encoded.columns)
            parts.append(marks)
            places += range(at, at + len(marks))
            sizes.append(torch.ones(len(marks)))
            at += len(marks)
        return parts, [*places, at], torch.cat(sizes)

    def broken(self, e: Encoded) -> Encoded:
        """With a break behind each line that has a token left, but the last of the grid: a column more."""
        line_break = self.towers[EXACT].line_break
        if line_break is None:
            return e
        counts = e.counts if e.counts is not None else torch.ones(len(e.cells))
        rows, cells, sizes = [], [], []
        for i, cell in enumerate(e.cells):
            line = cell // e.columns
            rows.append(e.embeddings[i])
            cells.append(cell + line)
            sizes.append(counts[i])
            if line + 1 < e.rows and (i + 1 == len(e.cells) or e.cells[i + 1] // e.columns > line):
                rows.append(line_break.double())
                cells.append(line * (e.columns + 1) + e.columns)
                sizes.append(torch.tensor(1.0))
        sizes = torch.stack([s.double() for s in sizes])
        return replace(e, embeddings=torch.stack(rows), cells=cells, columns=e.columns + 1, counts=sizes)

    def positions(self, spans, placed: str, grid: str) -> torch.Tensor:
        """[rows, 3] of the whole prompt."""
        rows, at = [[i] * 3 for i in range(len(BEFORE))], len(BEFORE)
        for i, (encoded, (_, places, _)) in enumerate(spans):
            if i > 0:
                rows += [[at + i] * 3 for i in range(len(BETWEEN))]
                at += len(BETWEEN)
            if not self.axes:
                last = places[-1]
                places = places[:-1]
                if placed == CLOSED:
                    places, last = range(len(places)), len(places)
                rows += [[at + p] * 3 for p in places]
                at += last
                continue
            first, last = self.marks
            rows += [[at + i] * 3 for i in range(len(first))]
            at += len(first)
            rows += [[at, at + c // encoded.columns, at + c % encoded.columns] for c in encoded.cells]
            at += max(encoded.rows, encoded.columns)
            rows += [[at + i] * 3 for i in range(len(last))]
            at += len(last)
        rows += [[at + i] * 3 for i in range(len(AFTER))]
        return torch.tensor(rows, dtype=torch.float64)

    def run(self, sizes, seed: int, rounding: str, schedule, way):
        grid, placed, rule = way
        spans = []
        for i, size in enumerate(sizes):
            encoded = self.towers[rounding].encode(self.pixels(size, seed + i), schedule, grid, rule=rule)
            spans.append((encoded, self.span(encoded)))
        content = self.around([parts for _, (parts, _, _) in spans])
        counted = None
        if placed == OWN and schedule:
            counted = [self.broken(e).counts for e, _ in spans for _ in self.marks[1:]]
        positions = self.positions(spans, placed, grid)
        logits, _ = self.decoders[rounding].prefill_spans(content, positions, {}, counted)
        tiles = range(len(self.marks) - 1)
        steps = [(s, t, step) for s, (e, _) in enumerate(spans) for t in tiles for step in e.steps]
        return logits, [span for _, span in spans], steps

    def transformers(self, sizes) -> torch.Tensor:
        tiles = [self.pixels(size, i) for i, size in enumerate(sizes) for _ in self.marks[1:]]
        span = [self.marks[0], *(part for marks in self.marks[1:] for part in (None, marks))]
        return self.model.last_logits(tiles, self.around([span for _ in sizes]))

    @staticmethod
    def around(spans: list[list]) -> list:
        """The whole prompt's parts."""
        between = [[BETWEEN, *parts] for parts in spans[1:]]
        return [BEFORE, *(part for parts in [spans[0], *between] for part in parts), AFTER]


def same(a, b) -> bool:
    return [(s.kept, s.into, s.groups) for _, _, s in a] == [(s.kept, s.into, s.groups) for _, _, s in b]


def entry(pair: Pair, key: str, sizes, seed: int, spans, logits, tensors: dict, **more) -> dict:
    tensors[f"{key}.logits"] = logits.float().contiguous()
    for i, (_, _, counts) in enumerate(spans):
        tensors[f"{key}.sizes.{i}"] = counts.float().contiguous()
    return {
        "name": key,
        "family": pair.kind,
        "sizes": sizes,
        "frames": 0,
        "question": "",
        "seed": seed,
        "parts": pair.around([[None] for _ in sizes]),
        "spans": [len(counts) for _, _, counts in spans],
        "places": [places for _, places, _ in spans],
        "greedy": [int(logits.argmax())],
        **more,
    }


def off(pair: Pair, sizes, tensors: dict) -> dict:
    logits, spans, _ = pair.run(sizes, 0, EXACT, {}, WAYS[0])
    expected = pair.transformers(sizes)
    error = float(torch.linalg.norm(logits - expected) / torch.linalg.norm(expected))
    print(f"  {len(sizes)} pictures, off: the account is {error:.1e} from transformers", flush=True)
    if error > AGREEMENT:
        raise SystemExit(f"{pair.kind}: the account and transformers differ by {error:.1e}")
    return entry(pair, f"{pair.kind}.{len(sizes)}.off", sizes, 0, spans, expected, tensors)


def merged(pair: Pair, sizes, schedule, way, tensors: dict) -> dict:
    grid, placed, rule = way

    def attempt(seed: int):
        _, _, exact = pair.run(sizes, seed, EXACT, schedule, way)
        logits, spans, steps = pair.run(sizes, seed, SINGLE, schedule, way)
        return (logits, spans, steps) if same(exact, steps) and far_apart(exact, steps) else None

    seed, (logits, spans, steps) = first_seed(SEEDS, attempt, f"{pair.kind}: no pictures with safe gaps")
    key = f"{pair.kind}.{len(sizes)}.{grid}.{rule.name}"
    print(f"  {key}: seed {seed}, rows {[len(c) for _, _, c in spans]}", flush=True)
    return entry(
        pair, key, sizes, seed, spans, logits, tensors,
        grid=grid, positions=placed, strategy=rule.name, encoder=list(schedule.items()), llm_layer=2, llm_keep=1.0,
        steps=[{"span": s, "tile": t, "layer": p.layer, "kept": p.kept, "into": p.into} for s, t, p in steps],
    )


def gemma3(pair: Pair, tensors: dict) -> list[dict]:
    """Rows alone: with all patches from transformers, merged from the account."""
    entries, size = [], (64, 64)
    expected = pair.model.rows(pair.pixels(size, 0))
    account = pair.towers[EXACT].encode(pair.pixels(size, 0), {}).embeddings
    error = float(torch.linalg.norm(account - expected) / torch.linalg.norm(expected))
    print(f"  off: the account is {error:.1e} from transformers", flush=True)
    if error > AGREEMENT:
        raise SystemExit(f"{pair.kind}: the account and transformers differ by {error:.1e}")
    for rule in (None, MERGE, BIPARTITE):
        schedule = {} if rule is None else {1: 24, 2: 16, 3: 12}

        def attempt(seed: int):
            exact, rounded = (
                pair.towers[r].encode(pair.pixels(size, seed), schedule, rule=rule or MERGE) for r in (EXACT, SINGLE)
            )
            steps = [[(0, 0, step) for step in e.steps] for e in (exact, rounded)]
            return rounded if same(*steps) and far_apart(*steps) else None

        seed, e = first_seed(SEEDS, attempt, "gemma3: no pictures with safe gaps")
        key = f"gemma3.{rule.name if rule else 'off'}"
        tensors[f"{key}.rows"] = (e.embeddings if rule else expected).float().contiguous()
        _, places, sizes = pair.span(e)
        print(f"  {key}: seed {seed}, {len(e.cells)} cells", flush=True)
        entries.append({
            "name": key, "family": "gemma3", "sizes": [size], "frames": 0, "question": "", "seed": seed,
            "parts": [BEFORE, None, AFTER], "spans": [len(sizes)], "places": [places], "greedy": [],
            "strategy": rule.name if rule else "", "encoder": list(schedule.items()),
            "steps": [{"span": 0, "tile": 0, "layer": p.layer, "kept": p.kept, "into": p.into} for p in e.steps],
        })
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--kind", choices=KINDS, help="print one type's, write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors: dict[str, torch.Tensor] = {}
    entries = []
    for kind in [args.kind] if args.kind else KINDS:
        print(kind, flush=True)
        if kind == "gemma3":
            with tempfile.TemporaryDirectory() as folder:
                entries += gemma3(Pair(kind, Path(folder)), tensors)
            continue
        pictures, schedule, ways = KINDS[kind]
        with tempfile.TemporaryDirectory() as folder:
            pair = Pair(kind, Path(folder))
        for sizes in pictures:
            entries.append(off(pair, sizes, tensors))
            entries += [merged(pair, sizes, schedule, way, tensors) for way in ways]
    if args.kind:
        return
    path = args.out / "towers.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    index = {"made_by": "tools/make_tower_fixtures.py", "tensors": path.name, "cases": entries}
    text = json.dumps(index, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (args.out / "towers.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
