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
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers
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


@dataclass
class Case:
    """Pictures of `sizes` (width, height), or `frames` of a video of the one size, `fps` of them a second."""

    sizes: list[tuple[int, int]]
    frames: int = 0
    fps: float = 2.0

    def name(self) -> str:
        return f"video{self.frames}at{self.fps:g}" if self.frames else f"{len(self.sizes)}"


@dataclass
class Span:
    """Tiles with the marks around them; `shared`: they stand on one grid, at `times` of their own."""

    tiles: list[Encoded]
    marks: list[list[int]]
    times: list[int]
    parts: list
    places: list[int]
    counts: torch.Tensor
    shared: bool = False


def cases(*pictures, videos=()) -> list[Case]:
    return [*(Case(list(sizes)) for sizes in pictures), *(Case([size], n, fps) for size, n, fps in videos)]


# Cases, the patches that each layer removes, and the ways to merge.
KINDS = {
    "internvl": (cases([(64, 64)], [(64, 64), (64, 64)]), {1: 8, 2: 8, 3: 12}, SINGLES),
    "gemma3": (cases([(64, 64)], [(64, 64), (64, 64)]), {1: 24, 2: 16, 3: 12}, WAYS),
    "idefics3": (cases([(64, 64)], [(64, 64), (64, 64)]), {1: 8, 2: 8, 3: 12}, SINGLES),
    "pixtral": (cases([(64, 48)], [(48, 32), (64, 40)]), {1: 4, 2: 8, 3: 8}, WAYS),
    "mistral_small": (cases([(96, 64)], [(64, 48), (96, 64)]), {1: 8, 2: 8, 3: 16}, WAYS),
    "qwen3vl_merger": (
        cases([(80, 64)], [(64, 48), (64, 96)], videos=[((64, 48), 4, 2.0), ((48, 64), 6, 1.5)]),
        {0: 8, 1: 8, 2: 4, 3: 4}, WAYS,
    ),
    "qwen2.5vl_merger": (
        cases([(160, 128)], [(96, 64), (64, 144)], videos=[((64, 48), 4, 2.0), ((128, 96), 6, 1.5)]),
        {1: 8, 2: 8, 3: 12}, SINGLES,
    ),
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
        # The decoder's step removes nothing; Qwen3-VL's first layers take features of the pictures.
        self.llm_layer = 2
        self.towers = {r: Tower(self.tower, r) for r in (EXACT, SINGLE)}
        self.decoders = {r: Decoder(self.text, r) for r in (EXACT, SINGLE)}
        self.model = HfTower(text, mmproj)
        self.axes = self.decoders[EXACT].sections is not None
        names = self.text.fields["tokenizer.ggml.tokens"]
        # Marks around each picture; between its tiles, if it is shown several times.
        self.marks = [[names.index(mark) for mark in marks] for marks in MARKS.get(kind, ((), ()))]

    def pixels(self, size, seed: int) -> torch.Tensor:
        return (torch.tensor(picture(*size, seed)).float() / 255 - 0.5) / 0.5

    def span(self, tiles: list[Encoded], marks: list[list[int]]):
        """Rows of one span, its places with the end, and the size of every row. Marks are token ids, tiles tensors."""
        parts, places, sizes, at = [], [], [], 0
        for i, mark in enumerate(marks):
            if i > 0:
                e = self.broken(tiles[i - 1])
                counts = e.counts if e.counts is not None else torch.ones(len(e.cells))
                parts.append(e.embeddings)
                places += [at + c for c in e.cells]
                sizes.append(counts)
                at += e.rows * e.columns - (e.columns > tiles[i - 1].columns)
            parts.append(mark)
            places += range(at, at + len(mark))
            sizes.append(torch.ones(len(mark)))
            at += len(mark)
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

    def positions(self, spans, placed: str) -> torch.Tensor:
        """[rows, 3] of the whole prompt."""
        rows, at = [[i] * 3 for i in range(len(BEFORE))], len(BEFORE)
        for i, span in enumerate(spans):
            if i > 0:
                rows += [[at + i] * 3 for i in range(len(BETWEEN))]
                at += len(BETWEEN)
            if not self.axes:
                places, last = span.places[:-1], span.places[-1]
                if placed == CLOSED:
                    places, last = range(len(places)), len(places)
                rows += [[at + p] * 3 for p in places]
                at += last
                continue
            for mark, e, time in zip(span.marks, [None, *span.tiles], [0, *span.times]):
                if e is not None:
                    rows += [[at + time, at + c // e.columns, at + c % e.columns] for c in e.cells]
                    # The pairs of a video without marks share one first position.
                    at += 0 if span.shared else max(e.rows, e.columns)
                rows += [[at + i] * 3 for i in range(len(mark))]
                at += len(mark)
            if span.shared:
                at += max(e.rows, e.columns, span.times[-1] + 1)
        rows += [[at + i] * 3 for i in range(len(AFTER))]
        return torch.tensor(rows, dtype=torch.float64)

    def stamp(self, seconds: float) -> list[int]:
        """The mark of a time in a video, by transformers' tokenizer of Qwen2."""
        tokens, merges = (self.text.fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "merges"))
        vocabulary = {token: i for i, token in enumerate(tokens)}
        tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges])
        return tokenizer.encode(f"<{seconds:.1f} seconds>", add_special_tokens=False)

    def video_marks(self, frames: int, fps: float) -> list[list[int]]:
        """Marks around the pairs of a video's frames."""
        if self.kind == "qwen2.5vl_merger":
            return [[] for _ in range(frames // 2 + 1)]
        first, last = self.marks
        stamps = [self.stamp((2 * i + 0.5) / fps) for i in range(frames // 2)]
        return [stamps[0] + first, *(last + stamp + first for stamp in stamps[1:]), last]

    def shown(self, case, seed: int, rounding: str, schedule, grid: str, rule) -> list:
        tower = self.towers[rounding]
        encode = lambda pixels, second=None: tower.encode(pixels, schedule, grid, second_frame=second, rule=rule)
        if not case.frames:
            spans = []
            for i, size in enumerate(case.sizes):
                e = encode(self.pixels(size, seed + i))
                tiles = [e] * (len(self.marks) - 1)
                spans.append(Span(tiles, self.marks, [0] * len(tiles), *self.span(tiles, self.marks)))
            return spans
        tiles = [encode(*pair) for pair in self.pairs(case, seed)]
        marks = self.video_marks(case.frames, case.fps)
        # Two positions a second, as Qwen2.5-VL was released.
        shared = self.kind == "qwen2.5vl_merger"
        times = [int(i * 2 * 2 / case.fps) if shared else 0 for i in range(len(tiles))]
        return [Span(tiles, marks, times, *self.span(tiles, marks), shared=shared)]

    def pairs(self, case, seed: int) -> list[tuple]:
        frames = [self.pixels(case.sizes[0], seed + i) for i in range(case.frames)]
        return list(zip(frames[::2], frames[1::2]))

    def run(self, case, seed: int, rounding: str, schedule, way):
        grid, placed, rule = way
        spans = self.shown(case, seed, rounding, schedule, grid, rule)
        content = self.around([span.parts for span in spans])
        counted = None
        if placed == OWN and schedule:
            counted = [self.broken(e).counts for span in spans for e in span.tiles]
        logits, _ = self.decoders[rounding].prefill_spans(content, self.positions(spans, placed), {}, counted)
        steps = [(s, t, step) for s, span in enumerate(spans) for t, e in enumerate(span.tiles) for step in e.steps]
        return logits, spans, steps

    def transformers(self, case) -> torch.Tensor:
        if case.frames:
            marks = self.video_marks(case.frames, case.fps)
            span = [marks[0], *(part for mark in marks[1:] for part in (None, mark))]
            return self.model.video_logits(self.pairs(case, 0), self.around([span]), case.fps)
        tiles = [self.pixels(size, i) for i, size in enumerate(case.sizes) for _ in self.marks[1:]]
        span = [self.marks[0], *(part for marks in self.marks[1:] for part in (None, marks))]
        return self.model.last_logits(tiles, self.around([span for _ in case.sizes]))

    @staticmethod
    def around(spans: list[list]) -> list:
        """The whole prompt's parts."""
        between = [[BETWEEN, *parts] for parts in spans[1:]]
        return [BEFORE, *(part for parts in [spans[0], *between] for part in parts), AFTER]


def same(a, b) -> bool:
    return [(s.kept, s.into, s.groups) for _, _, s in a] == [(s.kept, s.into, s.groups) for _, _, s in b]


def entry(pair: Pair, key: str, case, seed: int, spans, logits, tensors: dict, **more) -> dict:
    tensors[f"{key}.logits"] = logits.float().contiguous()
    for i, span in enumerate(spans):
        tensors[f"{key}.sizes.{i}"] = span.counts.float().contiguous()
    return {
        "name": key,
        "family": pair.kind,
        "sizes": case.sizes,
        "frames": case.frames,
        "fps": case.fps,
        "question": "",
        "seed": seed,
        "parts": pair.around([[None] for _ in spans]),
        "spans": [len(span.counts) for span in spans],
        "places": [span.places for span in spans],
        "greedy": [int(logits.argmax())],
        **more,
    }


def off(pair: Pair, case, tensors: dict) -> dict:
    logits, spans, _ = pair.run(case, 0, EXACT, {}, WAYS[0])
    expected = pair.transformers(case)
    error = float(torch.linalg.norm(logits - expected) / torch.linalg.norm(expected))
    print(f"  {case.name()}, off: the account is {error:.1e} from transformers", flush=True)
    if error > AGREEMENT:
        raise SystemExit(f"{pair.kind}: the account and transformers differ by {error:.1e}")
    return entry(pair, f"{pair.kind}.{case.name()}.off", case, 0, spans, expected, tensors)


def merged(pair: Pair, case, schedule, way, tensors: dict) -> dict:
    grid, placed, rule = way

    def attempt(seed: int):
        _, _, exact = pair.run(case, seed, EXACT, schedule, way)
        logits, spans, steps = pair.run(case, seed, SINGLE, schedule, way)
        return (logits, spans, steps) if same(exact, steps) and far_apart(exact, steps) else None

    seed, (logits, spans, steps) = first_seed(SEEDS, attempt, f"{pair.kind}: no pictures with safe gaps")
    key = f"{pair.kind}.{case.name()}.{grid}.{rule.name}"
    print(f"  {key}: seed {seed}, rows {[len(span.counts) for span in spans]}", flush=True)
    return entry(
        pair, key, case, seed, spans, logits, tensors,
        grid=grid, positions=placed, strategy=rule.name, encoder=list(schedule.items()), llm_layer=pair.llm_layer,
        llm_keep=1.0,
        steps=[{"span": s, "tile": t, "layer": p.layer, "kept": p.kept, "into": p.into} for s, t, p in steps],
    )


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
        cases, schedule, ways = KINDS[kind]
        with tempfile.TemporaryDirectory() as folder:
            pair = Pair(kind, Path(folder))
        for case in cases:
            entries.append(off(pair, case, tensors))
            entries += [merged(pair, case, schedule, way, tensors) for way in ways if not case.frames or way in WAYS]
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
