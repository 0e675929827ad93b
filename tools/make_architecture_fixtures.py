#!/usr/bin/env python3
"""Expected outputs of merging inside the language model, for each architecture of tools/make_model.py --decoder.

    make_architecture_fixtures.py [--out tests/fixtures]

Each architecture has three cases. `off`: logits with nothing merged, from transformers' class (hf_decoders.py).
`plain`: the same picture merged at layers 2 and 3. `sizes`: the picture with cells missing from its grid, merged there
too; each row counts in attention once for each original one. Values of the last two come from the float64 reference
(reference_model/decoder.py), with the GELU of f16 that a CPU looks up. Without that rounding the reference has to
agree with transformers to `AGREEMENT`. Rows are searched, seed by seed, until no order of scores hangs on the rounding
of an F32 run: neighbouring scores among the merged tokens and the first survivor differ by `MARGIN`.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from hf_decoders import HfDecoder
from make_fixtures import smallest_gap
from make_model import make_decoder
from reference_model.arithmetic import EXACT, SINGLE
from reference_model.decoder import Decoder, grid_positions, sequential_positions
from reference_model.weights import Weights
from seed_search import first_seed
from testmodels.shapes import DECODERS

MARGIN = 1e-3  # of the smaller score; an F32 run moves scores by less than 1e-5
AGREEMENT = 1e-6  # of the logits' length
SEEDS = 2000
BEFORE, AFTER = [11, 12, 13, 14, 15], [21, 22, 23, 24]
SIDE = 6
KEEP = {2: 0.6, 3: 0.75}


def made(model: Decoder, cells: list[int], counted: bool):
    """The first rows whose merging does not hang on rounding: rows, sizes, positions, logits and steps."""
    n, parts = len(cells), 1 + model.deepstack
    if model.sections is None:
        # A line of cells; a thinned picture keeps their places.
        positions = sequential_positions(len(BEFORE), SIDE * SIDE, len(AFTER))
        rows = [*range(len(BEFORE)), *(len(BEFORE) + c for c in cells)]
        positions = positions[[*rows, *range(len(BEFORE) + SIDE * SIDE, len(positions))]]
    else:
        positions = grid_positions(len(BEFORE), cells, SIDE, SIDE, len(AFTER))

    def attempt(seed: int):
        g = torch.Generator().manual_seed(seed)
        span = torch.randn(n, parts * model.width, generator=g) * 0.5
        sizes = torch.randint(1, 4, (n,), generator=g).double() if counted else None
        logits, steps = model.prefill_spans(
            [BEFORE, span, AFTER], positions, KEEP, None if sizes is None else [sizes.clone()]
        )
        steps = [step for _, step in steps]
        safe = all(smallest_gap(step) >= MARGIN for step in steps)
        return (span, sizes, positions, logits, steps) if safe else None

    return first_seed(SEEDS, attempt, "no rows with safe gaps")[1]


def off(path: Path, span: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Logits of transformers, and how far the account is off them."""
    expected = HfDecoder(path).last_logits(BEFORE, span, AFTER, positions)
    account, _ = Decoder(Weights(path), EXACT).prefill_spans([BEFORE, span, AFTER], positions, {})
    error = float(torch.linalg.norm(account - expected) / torch.linalg.norm(expected))
    if error > AGREEMENT:
        raise SystemExit(f"{path}: the account and transformers differ by {error:.1e}")
    return expected, error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors: dict[str, torch.Tensor] = {}
    cases = []
    full = list(range(SIDE * SIDE))
    thinned = [c for c in full if c % 5 != 2]
    for shape in DECODERS:
        with tempfile.TemporaryDirectory() as folder:
            (path,) = make_decoder(Path(folder), shape)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            model = Decoder(Weights(path), SINGLE)
            made_cases = {
                kind: made(model, cells, counted)
                for kind, cells, counted in (("plain", full, False), ("sizes", thinned, True))
            }
            span, sizes, positions, _, _ = made_cases["plain"]
            expected, error = off(path, span, positions)
            made_cases["off"] = (span, sizes, positions, expected, [])
            print(f"{shape}: without merging the account is {error:.1e} from transformers", flush=True)
        for kind, (span, sizes, positions, logits, steps) in made_cases.items():
            name = f"{shape}.{kind}"
            rows = f"{shape}.{'plain' if kind == 'off' else kind}.rows"
            tensors[rows] = span.contiguous()
            tensors[f"{name}.logits"] = logits.float().contiguous()
            cases.append({
                "name": name,
                "arch": shape,
                "sha256": digest,
                "rows": rows,
                "before": BEFORE,
                "after": AFTER,
                "sizes": [] if sizes is None else sizes.int().tolist(),
                "positions": positions.T.int().tolist(),
                "both_ways": model.gemma,
                "steps": [{"layer": s.layer, "r": s.n_in - s.n_out, "kept": s.kept, "merged": s.merged} for s in steps],
            })
            if steps:
                gap = min(map(smallest_gap, steps))
                print(f"  {name:20s} {len(span):3d} rows, smallest gap {gap:.1e}", flush=True)
    path = args.out / "architectures.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    text = json.dumps({"made_by": "tools/make_architecture_fixtures.py", "cases": cases}, separators=(",", ":"))
    (args.out / "architectures.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
