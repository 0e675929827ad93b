#!/usr/bin/env python3
"""Expected merging of each model family, from the float64 reference: one picture, three, anyres and video.

    make_family_merging.py --models DIR [--out tests/fixtures]

DIR holds the pairs that tools/test-models.sh makes. For each case: which tokens every step of both halves keeps, the
rows of each span and the logits after the prompt. They have the roundings to f16 that a CPU run of an F32 file makes
(see reference_model/arithmetic.py). Pictures are those of family_inputs.py; their seed is raised until no step hangs on
rounding: what the exact and the rounded computation keep is the same, and the scores at the edge are apart
(safe_gaps.py).

The tiles are those of transformers' processor on Pillow; what is kept has to be the same with those
of its processor on torchvision, whose pixels differ by one level here and there.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from family_inputs import picture
from make_family_fixtures import Model
from reference_model.arithmetic import EXACT, SINGLE
from reference_model.assembly import Tile, anyres, plain, relabelled, video
from reference_model.decoder import Decoder
from reference_model.encoder import Encoder
from reference_model.merge import Step
from reference_model.strategies import Rule
from reference_model.weights import Weights
from safe_gaps import far_apart
from seed_search import first_seed

SEEDS = 400
QUESTION = "what is in the image"
FAITHFUL, REFERENCE = "faithful", "reference"
OWN, CLOSED = "own", "closed"
MERGE, BIPARTITE = Rule(), Rule("bipartite", sizes=True)
SCHEDULE = {2: 4, 3: 3, 4: 3, 5: 3}  # 49 patches to 36, a square
GROUPS = {2: 4, 3: 4, 4: 8}
LAYER_KEEP = {2: 0.7}
THREE = [(100, 80), (60, 90), (56, 56)]
CASES = {
    "llava": [("one", [(100, 80)], 0), ("three", THREE, 0)],
    "llava_next": [("anyres", [(150, 50)], 0), ("padded", [(100, 80)], 0)],
    "llava_onevision": [("anyres", [(150, 50)], 0), ("three", THREE, 0), ("video", [(56, 56)], 4)],
    "qwen2_vl": [("one", [(100, 80)], 0), ("three", THREE, 0), ("video", [(64, 48)], 4)],
}


class Pair:
    """The references of one converted pair, and both processors of its family."""

    def __init__(self, family: str, models: Path):
        folder = models / f"hf-{family}-f32"
        self.family = family
        self.tower, self.text = Weights(folder / "mmproj.gguf"), Weights(folder / "text.gguf")
        self.encoders = {r: Encoder(self.tower, r, "first") for r in (EXACT, SINGLE)}
        self.decoders = {r: Decoder(self.text, r) for r in (EXACT, SINGLE)}
        self.newline = self.tower.get("v.image_newline")
        checkpoint = models / "checkpoints" / family
        self.processors = {b: Model(family, checkpoint, backend=b) for b in ("pil", "torchvision")}
        processor = self.processors["pil"].processor.image_processor
        self.mean, self.std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)

    def inputs(self, sizes, frames: int, seed: int, backend: str):
        """The prompt's parts, and for each span its tiles, f32 as the engine has them."""
        if frames:
            pictures = [picture(*sizes[0], seed + i) for i in range(frames)]
        else:
            pictures = [picture(*size, seed + i) for i, size in enumerate(sizes)]
        model = self.processors[backend]
        inputs = model.inputs(pictures, frames, QUESTION)
        parts, _ = model.parts(inputs["input_ids"][0].tolist())
        tiles = [(t.float() / 255 - self.mean) / self.std for t in model.tiles(inputs)]
        count = 1 if frames or len(sizes) == 1 else len(sizes)
        each = len(tiles) // count
        return parts, [tiles[i * each : (i + 1) * each] for i in range(count)]

    def encode(self, tiles, rounding: str, grid: str, rule: Rule):
        """[(encoded, place in time)] of one span."""
        encoder = self.encoders[rounding]
        if self.family != "qwen2_vl":
            return [encoder.encode(t, SCHEDULE, rule=rule) for t in tiles]
        pairs = [tiles[i : i + 2] for i in range(0, len(tiles), 2)] if len(tiles) > 1 else [tiles * 2]
        return [encoder.encode(a, GROUPS, grid, second_frame=b, rule=rule) for a, b in pairs]

    def assemble(self, encoded, sizes, frames: int, grid: str):
        side = self.tower.fields["clip.vision.image_size"]
        if frames and self.family == "llava_onevision":
            return video([self.tile(e, grid) for e in encoded], self.newline)
        if len(encoded) == 1 or self.family == "qwen2_vl":
            tiles = [self.tile(e, FAITHFUL) for e in encoded]
            return plain(tiles, self.newline if self.family == "llava_onevision" else None)
        (width, height), = sizes
        pinpoints = self.processors["pil"].model.config.image_grid_pinpoints
        best = transformers.image_processing_utils.select_best_resolution((height, width), pinpoints)
        cap = 9 if self.family == "llava_onevision" else None
        tiles = [self.tile(e, grid) for e in encoded[1:]]
        shape = (best[0] // side, best[1] // side)
        return anyres(self.tile(encoded[0], grid), tiles, shape, (height, width), self.newline, cap)

    @staticmethod
    def tile(encoded, grid: str) -> Tile:
        if grid == REFERENCE:
            return relabelled(encoded.embeddings)
        return Tile(encoded.embeddings, encoded.cells, encoded.rows, encoded.columns, encoded.counts)

    @staticmethod
    def line(parts, spans, placed: str) -> torch.Tensor:
        """One position for every row, [rows, 3]; `spans` are assembled."""
        rows, at, spans = [], 0, iter(spans)
        for part in parts:
            if part is not None:
                places, length = range(len(part)), len(part)
            else:
                span = next(spans)
                places, length = span.places, span.length
                if placed == CLOSED:
                    places, length = range(len(places)), len(places)
            rows += [at + place for place in places]
            at += length
        return torch.tensor(rows, dtype=torch.float64)[:, None].expand(len(rows), 3)

    def positions(self, parts, spans, grid: str) -> torch.Tensor:
        """(t, h, w) of every row, [rows, 3]; `spans` are lists of encoded."""
        rows, at, spans = [], 0, iter(spans)
        for part in parts:
            if part is not None:
                rows += [[at + i] * 3 for i in range(len(part))]
                at += len(part)
                continue
            span = next(spans)
            down, across = span[0].rows, span[0].columns
            if grid == REFERENCE:
                cells = range(sum(len(e.cells) for e in span))
            else:
                cells = [t * down * across + c for t, e in enumerate(span) for c in e.cells]
            for cell in cells:
                t, inside = divmod(cell, down * across)
                rows.append([at + t, at + inside // across, at + inside % across])
            at += max(down, across, len(span))
        return torch.tensor(rows, dtype=torch.float64)

    def run(self, sizes, frames: int, seed: int, backend: str, rounding: str, way):
        """Logits, the assembled spans, and the steps as [(span, tile or None, step)]."""
        grid, placed, rule = way
        parts, spans = self.inputs(sizes, frames, seed, backend)
        encoded = [self.encode(tiles, rounding, grid, rule) for tiles in spans]
        steps = [(s, t, step) for s, span in enumerate(encoded) for t, e in enumerate(span) for step in e.steps]
        rows = [self.assemble(span, sizes, frames, grid) for span in encoded]
        filled = iter(rows)
        content = [next(filled).rows if part is None else part for part in parts]
        if self.family == "qwen2_vl":
            positions = self.positions(parts, encoded, grid)
        else:
            positions = self.line(parts, rows, placed)
        counted = [span.sizes for span in rows] if placed == OWN else None
        keep = LAYER_KEEP if rule == MERGE else {}
        logits, later = self.decoders[rounding].prefill_spans(content, positions, keep, counted)
        return parts, logits, rows, steps + [(s, None, step) for s, step in later]


def same(a, b) -> bool:
    return [(s.kept, s.into) for _, _, s in a] == [(s.kept, s.into) for _, _, s in b]


def entry(step) -> dict:
    span, tile, s = step
    return {"span": span, "tile": tile, "layer": s.layer, "kept": s.kept, "into": s.into}


def ways(family: str):
    """Grid, positions and rule. Own positions count sizes; a grid of (t, h, w) has no closed ones of its own."""
    own = [(FAITHFUL, OWN, MERGE), (FAITHFUL, OWN, BIPARTITE), (REFERENCE, CLOSED, MERGE)]
    return own if family == "qwen2_vl" else [*own, (FAITHFUL, CLOSED, MERGE)]


def case(pair: Pair, name: str, sizes, frames: int, way, tensors: dict) -> dict:
    grid, placed, rule = way

    def attempt(seed: int):
        _, _, _, exact = pair.run(sizes, frames, seed, "pil", EXACT, way)
        parts, logits, rows, steps = pair.run(sizes, frames, seed, "pil", SINGLE, way)
        safe = same(exact, steps) and far_apart(exact, steps)
        if safe and same(exact, pair.run(sizes, frames, seed, "torchvision", EXACT, way)[3]):
            return parts, logits, rows, steps
        return None

    seed, (parts, logits, rows, steps) = first_seed(SEEDS, attempt, f"{pair.family} {name}: no pictures with safe gaps")
    key = f"{pair.family}.{name}.{grid}.{placed}.{rule.name}"
    tensors[f"{key}.logits"] = logits.float().contiguous()
    for i, span in enumerate(rows):
        tensors[f"{key}.sizes.{i}"] = span.sizes.float().contiguous()
    print(f"  {key}: seed {seed}, rows {[len(s.rows) for s in rows]}, {len(steps)} steps", flush=True)
    schedule = GROUPS if pair.family == "qwen2_vl" else SCHEDULE
    return {
        "name": key,
        "family": pair.family,
        "sizes": sizes,
        "frames": frames,
        "question": QUESTION,
        "seed": seed,
        "grid": grid,
        "positions": placed,
        "strategy": rule.name,
        "encoder": list(schedule.items()),
        "llm_layer": next(iter(LAYER_KEEP)),
        "llm_keep": next(iter(LAYER_KEEP.values())) if rule == MERGE else 1.0,
        "parts": parts,
        "spans": [len(span.rows) for span in rows],
        "places": [[*span.places, span.length] for span in rows],
        "greedy": [int(logits.argmax())],
        "steps": [entry(s) for s in steps],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--models", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors: dict[str, torch.Tensor] = {}
    entries = []
    for family, cases in CASES.items():
        print(family, flush=True)
        pair = Pair(family, args.models)
        entries += [case(pair, *c, way, tensors) for c in cases for way in ways(family)]
    path = args.out / "families-merging.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    index = {"made_by": "tools/make_family_merging.py", "tensors": path.name, "cases": entries}
    text = json.dumps(index, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (args.out / "families-merging.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
