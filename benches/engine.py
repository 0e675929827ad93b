#!/usr/bin/env python3
"""Times the engine against the unpatched library: the same llama.cpp, models, threads and settings.

Stock, merging off and merging are a process each, loaded once and asked in turn. Other load of the machine then meets
all of them, and none pays for what another keeps in memory. Every figure is the median of the ratios of the rounds,
with their range.

    benches/engine.py                          all rows, threads 1 and 2, 5 rounds; 25 minutes or so
    benches/engine.py --only encoder share     some rows; --out FILE adds them to a file that is there
    benches/engine.py --quick                  tiny models, one round: shows that it works, and fails
                                               if a size is not what it should be

Writes a Markdown table to standard output and one JSON file to benches/runs/. Missing models are
written to --models (random weights in true shapes: 6 GB).
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

from measure import machine, models, table
from measure.benchmark import GROUPS, Benchmark, Settings
from measure.child import ChildError
from measure.rounds import Row

ROOT = Path(__file__).resolve().parent.parent

# Models that a group needs beyond the small pair.
NEEDED = {
    "kernels": {"siglip-so400m-q8_0.gguf", "siglip-so400m-q4_0.gguf", "qwen2-0.5b-q4_k.gguf"},
    "repack": {"siglip-so400m-q4_0.gguf"},
    "repack-first": {"siglip-so400m-q4_0.gguf"},
    "repack-stock": {"siglip-so400m-q4_0.gguf"},
    "q8": {"siglip-so400m-q8_0.gguf"},
    "text-q4_k": {"qwen2-0.5b-q4_k.gguf"},
    "large": {"qwen2-7b-q4_0.gguf"},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs after the warm-up (default 5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--clock",
        choices=("auto", "wall", "cpu"),
        default="auto",
        help="auto: one thread by its processor time, which a busy machine disturbs less; several by the clock on the wall",
    )
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-models", help="folder of the timing models")
    parser.add_argument("--programs", type=Path, nargs=2, metavar=("STOCK", "OURS"), help="programs built before, instead of building")
    parser.add_argument("--out", type=Path, help="the JSON file (default: benches/runs/engine-DATE.json); to one that is there the rows are added")
    parser.add_argument("--quick", action="store_true", help="tiny models, one round, one thread; no JSON unless --out")
    args = parser.parse_args()
    if args.rounds < 1 or min(args.threads) < 1:
        parser.error("--rounds and --threads are at least 1")
    if args.quick:
        args.rounds, args.threads = 1, [1]
    return args


def build() -> tuple[Path, Path]:
    script = ROOT / "tools" / "stock-build.sh"
    done = subprocess.run([str(script), "bench-pair"], check=True, stdout=subprocess.PIPE, text=True)
    stock, ours = (Path(line) for line in done.stdout.split())
    return stock, ours


def main() -> int:
    args = parse()
    if args.quick:
        files = models.tiny(ROOT / "target" / "test-models")
    else:
        needed = {"qwen2-0.5b-q4_0.gguf", "siglip-so400m-f16.gguf"}.union(*(NEEDED.get(group, set()) for group in args.only))
        files = models.timing(args.models, needed)
    stock, ours = args.programs or build()

    started, load = datetime.datetime.now(datetime.timezone.utc), machine.load()
    out = args.out
    if out is None and not args.quick:
        out = ROOT / "benches" / "runs" / f"engine-{started:%Y-%m-%d-%H%M}.json"
    about = {
        "benchmark": "engine",
        "commit": machine.commit(ROOT),
        "machine": machine.describe(),
        "settings": {"rounds": args.rounds, "clock": args.clock, "n_ubatch": 512, "flash_attention": True, "kv": "f16"},
    }

    # A run in pieces: rows of other groups, of the same programs on the same machine, stay.
    before = json.loads(out.read_text()) if out is not None and out.exists() else about | {"pieces": [], "rows": []}
    if any(before[key] != about[key] for key in about):
        print(f"benches/engine.py: {out} is of another commit, machine or setting; give another --out", file=sys.stderr)
        return 1

    def save(rows: list[Row]) -> None:
        if out is None:
            return
        piece = {
            "groups": args.only,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round((datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()),
            "load_average": {"before": load, "after": machine.load()},
        }
        run = about | {
            "pieces": before["pieces"] + [piece],
            "rows": before["rows"] + [row.as_json() for row in rows],
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(run, indent=1) + "\n")

    settings = Settings(tuple(args.only), args.rounds, tuple(args.threads), args.clock, args.quick)
    benchmark = Benchmark(stock, ours, files, settings, save)
    try:
        benchmark.run()
    except ChildError as error:
        print(f"benches/engine.py: {error}", file=sys.stderr)
        return 1
    print(table.markdown(benchmark.rows))
    return int(args.quick and any(row.met is False for row in benchmark.rows))


if __name__ == "__main__":
    sys.exit(main())
