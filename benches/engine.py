#!/usr/bin/env python3
"""Times the engine against the unpatched library: the same llama.cpp, models, threads and settings.

Both programs are loaded once and asked in turn (stock, merging off, merging, stock, ...), so that
what else the machine does meets all of them. Every figure is the median of the ratios of the
rounds, with their range.

    benches/engine.py                          all rows, threads 1 and 2, 5 rounds; 25 minutes or so
    benches/engine.py --only encoder share     some rows
    benches/engine.py --quick                  tiny models, one round: shows that it works, and fails
                                               where a size is not what it should be

Writes a Markdown table to standard output and one JSON file to benches/runs/. Missing models are
written to --models (random weights in true shapes: 6 GB).
"""

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measure import machine, models, table
from measure.child import Child, ChildError
from measure.rounds import Goal, Rounds, Row, Work

ROOT = Path(__file__).resolve().parent.parent

# The `paper` preset, for a tower of 729 tokens and a decoder that is given 361.
PAPER_TOWER = ((3, 92), (4, 92), (5, 92), (6, 92))
PAPER_DECODER = (2, 108)

OFF_IS_STOCK = Goal(0.98, 1.02)


@dataclass(frozen=True)
class Schedule:
    """What the `paper` preset removes from a tower of `tokens`."""

    tokens: int

    def tower(self) -> str:
        return ",".join(f"{layer}:{self._removed(r)}" for layer, r in PAPER_TOWER)

    def after_tower(self) -> int:
        return self.tokens - sum(self._removed(r) for _, r in PAPER_TOWER)

    def decoder(self, rows: int) -> str:
        layer, r = PAPER_DECODER
        return f"{layer}:{round(r * rows / 361)}"

    def _removed(self, r: int) -> int:
        return round(r * self.tokens / 729)


class Benchmark:
    def __init__(self, stock: Path, ours: Path, files: models.Models, args: argparse.Namespace, save: Callable[[list[Row]], None]):
        self.save = save
        self.stock, self.ours, self.files, self.args = stock, ours, files, args
        self.rows: list[Row] = []
        with Child(ours, files.small, files.tower, 1) as child:
            self.tokens = child.ask("describe")["visual"]
        self.schedule = Schedule(self.tokens)
        self.name = files.names

    def log(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    def add(self, what: str, threads: int, values: list[float], goal: Goal | None = None, **more) -> None:
        # Tiny models are too small to be faster; sizes hold for them too.
        if self.args.quick and more.get("unit") != "of":
            goal = None
        self.rows.append(Row(what, threads, values, goal, **more))
        self.save(self.rows)  # an interrupted run keeps what it has

    def rounds(self, title: str, threads: int, works: dict[str, Work]) -> Rounds:
        print(f"{title}, {threads} threads", file=sys.stderr, flush=True)
        clock = ("cpu" if threads == 1 else "wall") if self.args.clock == "auto" else self.args.clock
        rounds = Rounds(clock)
        rounds.run(works, self.args.rounds, self.log)
        return rounds

    def run(self) -> None:
        for threads in self.args.threads:
            if self.wants("encoder", "share", "decoder", "first"):
                with (
                    Child(self.stock, self.files.small, self.files.tower, threads) as stock,
                    Child(self.ours, self.files.small, self.files.tower, threads) as ours,
                ):
                    self.small_pair(stock, ours, threads)
            if self.wants("q8"):
                self.quantised_tower(threads)
            if self.wants("text-q4_k"):
                self.other_text(threads)
            if self.wants("large"):
                self.large_text_model(threads)
        if self.wants("memory"):
            self.compute_buffers()

    def wants(self, *groups: str) -> bool:
        return any(group in self.args.only for group in groups)

    def small_pair(self, stock: Child, ours: Child, threads: int) -> None:
        paper = self.schedule.tower()
        left = self.schedule.after_tower()
        n = self.tokens
        tower, text = self.name["tower"], self.name["small"]
        if self.wants("encoder"):
            r = self.rounds(
                "encoder",
                threads,
                {"stock": Work(stock, "encode off"), "off": Work(ours, "encode off"), "merged": Work(ours, f"encode {paper}")},
            )
            for reply in r.replies["merged"]:
                if reply["rows"] != left:
                    raise ChildError(f"the merged encode left {reply['rows']} tokens, not {left}")
            what = f"encoder {tower}"
            times = {"times": r.medians()}
            self.add(f"{what}, {n} → {left}: stock / merged", threads, r.ratios("stock", "merged"), Goal(low=1.8), details=times)
            self.add(f"{what}: off / stock", threads, r.ratios("off", "stock"), OFF_IS_STOCK, details=times)
        if self.wants("share"):
            shares = ours.ask(f"share {paper} {self.args.rounds}")["shares"]
            self.add("scoring, planning and merging, part of that encode", threads, shares, Goal(high=0.03), unit="share")
        if self.wants("decoder"):
            self.decoder(stock, ours, threads, n, left, self.schedule.decoder(left))
        if self.wants("first"):
            self.first_token(stock, ours, threads, f"tower {tower}, text {text}")

    def first_token(self, stock: Child, ours: Child, threads: int, pair: str) -> None:
        """Encode, prefill, 32 text tokens and their logits."""
        tower = self.schedule.tower()
        decoder = self.schedule.decoder(self.schedule.after_tower())
        r = self.rounds(
            f"first token, {pair}",
            threads,
            {"stock": Work(stock, "first off off"), "merged": Work(ours, f"first {tower} {decoder}")},
        )
        parts = {
            name: {"first": value["ms"], "encode": median(reply["encode_ms"] for reply in r.replies[name])}
            for name, value in r.medians().items()
        }
        self.add(
            f"time to first token, {pair}: stock / merged",
            threads,
            r.ratios("stock", "merged"),
            Goal(low=2.2),
            details={"times": r.medians(), "parts_ms": parts},
        )

    def decoder(self, stock: Child, ours: Child, threads: int, n: int, left: int, schedule: str) -> None:
        text = self.name["small"]
        r = self.rounds(
            "prefill",
            threads,
            {
                "stock": Work(stock, f"prefill {n} off"),
                "off": Work(ours, f"prefill {n} off"),
                "merged": Work(ours, f"prefill {left} {schedule}"),
            },
        )
        times = {"times": r.medians()}
        removed = int(schedule.split(":")[1])
        self.add(f"image prefill {text}: off / stock", threads, r.ratios("off", "stock"), OFF_IS_STOCK, details=times)
        self.add(
            f"image prefill {text}, {n} → {left} → {left - removed}: stock / merged",
            threads,
            r.ratios("stock", "merged"),
            details=times,
        )
        # The caches are still filled: stock's and that of merging last. Off is filled once more.
        steps = 8 if self.args.quick else 24
        generate = {"stock": Work(stock, f"generate {steps}"), "ours": Work(ours, f"generate {steps}")}
        merged = self.rounds("generation after merging", threads, generate)
        ours.ask(f"prefill {n} off")
        off = self.rounds("generation", threads, generate)
        self.add(
            f"generation {text}, step: off / stock",
            threads,
            off.ratios("ours", "stock"),
            OFF_IS_STOCK,
            details={"times": off.medians()},
        )
        self.add(
            f"generation {text}, step: stock / merged",
            threads,
            merged.ratios("stock", "ours"),
            details={"times": merged.medians()},
        )

    def quantised_tower(self, threads: int) -> None:
        paper = self.schedule.tower()
        with (
            Child(self.stock, self.files.small, self.files.tower, threads) as plain,
            Child(self.stock, self.files.small, self.files.tower_q8, threads) as stock,
            Child(self.ours, self.files.small, self.files.tower_q8, threads) as ours,
        ):
            r = self.rounds(
                "tower in Q8_0",
                threads,
                {
                    "F16 stock": Work(plain, "encode off"),
                    "Q8_0 stock": Work(stock, "encode off"),
                    "Q8_0 merged": Work(ours, f"encode {paper}"),
                },
            )
            times = {"times": r.medians()}
            self.add("encoder in Q8_0 / in F16, stock", threads, r.ratios("Q8_0 stock", "F16 stock"), details=times)
            self.add("encoder in Q8_0: stock / merged", threads, r.ratios("Q8_0 stock", "Q8_0 merged"), details=times)
            self.first_token(stock, ours, threads, f"tower {self.name['tower_q8']}, text {self.name['small']}")

    def other_text(self, threads: int) -> None:
        with (
            Child(self.stock, self.files.small_k, self.files.tower, threads) as stock,
            Child(self.ours, self.files.small_k, self.files.tower, threads) as ours,
        ):
            self.first_token(stock, ours, threads, f"tower {self.name['tower']}, text {self.name['small_k']}")

    def large_text_model(self, threads: int) -> None:
        n, left = self.tokens, self.schedule.after_tower()
        schedule = self.schedule.decoder(left)
        removed = int(schedule.split(":")[1])
        with (
            Child(self.stock, self.files.large, None, threads) as stock,
            Child(self.ours, self.files.large, None, threads) as ours,
        ):
            r = self.rounds(
                f"prefill {self.name['large']}",
                threads,
                {"stock": Work(stock, f"prefill {n} off"), "merged": Work(ours, f"prefill {left} {schedule}")},
            )
            with_merging = ours.ask("memory")
            self.add(
                f"image prefill {self.name['large']}, {n} → {left} → {left - removed}: stock / merged",
                threads,
                r.ratios("stock", "merged"),
                Goal(low=2.6),
                details={"times": r.medians()},
            )
            if self.wants("memory") and threads == self.args.threads[-1]:
                ours.ask(f"prefill {n} off")
                without = ours.ask("memory")
                self.add(
                    f"visual KV bytes {self.name['large']}: merged / off",
                    threads,
                    [kv_bytes(with_merging) / kv_bytes(without)],
                    Goal(high=0.37),
                    unit="of",
                    details={"merged": with_merging, "off": without, "rows": [n, left, left - removed]},
                )

    def compute_buffers(self) -> None:
        print("compute buffers", file=sys.stderr, flush=True)
        # One schedule and one -c for both, so that nothing but the picture differs.
        schedule, ctx = f"2:{4 if self.args.quick else 172}", 4096
        asked = {}
        for rows in (576, 2880):
            with Child(self.ours, self.files.small, None, self.args.threads[-1], ctx) as ours:
                ours.ask(f"prefill {rows} {schedule}")
                asked[rows] = ours.ask("memory")
        self.add(
            f"compute buffers {self.name['small']}, -c {ctx}, n_ubatch 512: image of 2880 / of 576 tokens",
            self.args.threads[-1],
            [asked[2880]["compute_bytes"] / asked[576]["compute_bytes"]],
            Goal(high=1.0),
            unit="of",
            details={str(rows): reply for rows, reply in asked.items()},
        )


def kv_bytes(memory: dict) -> float:
    """Bytes of the cells in use, over all segments."""
    return sum(s["bytes"] * s["used"] / s["cells"] for s in memory["segments"])


GROUPS = ("encoder", "share", "decoder", "first", "q8", "text-q4_k", "large", "memory")
NEEDED = {
    "encoder": {"siglip-so400m-f16.gguf"},
    "share": {"siglip-so400m-f16.gguf"},
    "first": {"siglip-so400m-f16.gguf"},
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
    parser.add_argument("--out", type=Path, help="the JSON file (default: benches/runs/engine-DATE.json)")
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
        "started": started.isoformat(timespec="seconds"),
        "commit": machine.commit(ROOT),
        "machine": machine.describe(),
        "settings": {"rounds": args.rounds, "clock": args.clock, "n_ubatch": 512, "flash_attention": True, "kv": "f16"},
    }

    def save(rows: list[Row]) -> None:
        if out is None:
            return
        run = about | {
            "seconds": round((datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()),
            "load_average": {"before": load, "after": machine.load()},
            "rows": [row.as_json() for row in rows],
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(run, indent=1) + "\n")

    benchmark = Benchmark(stock, ours, files, args, save)
    try:
        benchmark.run()
    except ChildError as error:
        print(f"benches/engine.py: {error}", file=sys.stderr)
        return 1
    print(table.markdown(benchmark.rows))
    return int(args.quick and any(row.met is False for row in benchmark.rows))


if __name__ == "__main__":
    sys.exit(main())
