#!/usr/bin/env python3
"""Times one question about a picture in the shapes of released models, by llama.cpp's kernels, by ours, and merged.

    benches/shapes.py                            four models, two sizes: 7 GB of memory, an hour of one core
    benches/shapes.py --layers 4                 text models of 4 layers, prompts scaled: 5 GB, less than half of it
    benches/shapes.py --only "Gemma 3 4B" --sizes 1280x720
    benches/shapes.py --quick                    the tests' tiny pair of InternVL: shows that it works

A run is a process of its own, `illava run -n 1`, with one thread. Its report says how long the encoder and the prompt
took by the wall. The kernel's clock of the process, read every 10 ms, says how much processor time fell into each.
`llama.cpp` is `--kernels stock --merge off`, whose results are those of the unpatched library to the last bit.
A ratio is that of two runs of one round. Weights are random; those of encoders are values of bf16, as released ones are.
Rows are kept in the JSON file as they come, and a call that was stopped goes on from the last one. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

from measure import machine, models
from measure.bitmap import noise

ROOT = Path(__file__).resolve().parent.parent
ARMS = {
    "llama.cpp": ["--kernels", "stock", "--merge", "off"],
    "off": ["--merge", "off"],
    "merged": ["--merge", "paper"],
}
PARTS = ("encoder", "prompt", "first token")


@dataclass(frozen=True)
class Shape:
    """Names of tools/make_model.py for a text model and the projector beside it, and the text model's layers."""

    text: str
    projector: str
    layers: int
    merges: int  # the layer at which `paper` merges

    def files(self, folder: Path, text_type: str, layers: int | None) -> tuple[Path, Path]:
        cut = f"-{layers}-layers" if layers else ""
        return (
            models.written(folder, f"{self.text}{cut}-{text_type}.gguf",
                           ["--timing", self.text, "--type", text_type, *(["--layers", str(layers)] if layers else [])]),
            models.written(folder, f"mmproj-{self.projector}-f16.gguf",
                           ["--timing-projector", self.projector, "--type", "f16"]),
        )


SHAPES = {
    "Qwen2.5-VL-7B": Shape("qwen2.5vl-7b", "qwen2.5vl-7b", 28, 2),
    "Qwen3-VL-8B": Shape("qwen3vl-8b", "qwen3vl-8b", 36, 3),
    "InternVL3-8B": Shape("internvl3-8b", "internvl3-8b", 28, 2),
    "Gemma 3 4B": Shape("gemma3-4b", "gemma3-4b", 34, 2),
}
SIZES = ["1280x720", "2000x1500"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "illava")
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-models", help="folder of the models")
    parser.add_argument("--only", action="append", choices=SHAPES, help="a shape; repeat it for several")
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"sizes of the picture (default {','.join(SIZES)})")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each arm (default 1)")
    parser.add_argument("--type", default="q4_k", help="weights of the text models (default q4_k)")
    parser.add_argument("--layers", type=int, help="of the text models, instead of all: the prompt's time is scaled")
    parser.add_argument("--limit", type=float, default=1800, help="seconds by the wall after which a run is ended")
    parser.add_argument("--out", type=Path, help="the JSON file (default: benches/runs/shapes-DATE.json)")
    parser.add_argument("--quick", action="store_true", help="a tiny pair, one size; no JSON unless --out")
    return parser.parse_args()


class ProcessorClock:
    """Processor seconds of another process over time, read by a thread of its own until the process ends."""

    def __init__(self, pid: int, every: float = 0.01):
        self._clock = ~pid << 3 | 2  # the kernel's number of a process's clock
        self._every = every
        self.walls: list[float] = []
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            try:
                seconds = time.clock_gettime(self._clock)
            except OSError:
                return
            self.walls.append(time.monotonic())
            self.seconds.append(seconds)
            time.sleep(self._every)

    def join(self) -> None:
        self._thread.join()

    def at(self, wall: float) -> float:
        """Processor seconds until a moment of `time.monotonic`, interpolated between two readings."""
        after = min(max(bisect_left(self.walls, wall), 1), len(self.walls) - 1)
        w0, w1 = self.walls[after - 1 : after + 1]
        s0, s1 = self.seconds[after - 1 : after + 1]
        return s0 + (s1 - s0) * min(max((wall - w0) / (w1 - w0), 0.0), 1.0)


def parts(at, end: float, ms: dict) -> dict[str, float]:
    """Processor seconds of encoder (with projector), prompt, and all up to the first token.

    `at` gives the processor time at a moment, `end` is the moment of the report, `ms` the report's times by the wall.
    """
    first = end - (ms["total"] - ms["first_token"]) / 1e3
    prompt = first - ms["prefill"] / 1e3
    encoder = prompt - (ms["encoder"] + ms["projector"]) / 1e3
    return {
        "encoder": at(prompt) - at(encoder),
        "prompt": at(first) - at(prompt),
        "first token": at(first) - at(first - ms["first_token"] / 1e3),
    }


def run(program: Path, files: tuple[Path, Path], picture: Path, arm: list[str], limit: float) -> dict | None:
    """Processor seconds and report of one run; None if it was ended at the limit."""
    command = [program, "run", "-m", files[0], "-mm", files[1], "--image", picture, *arm, "-p", "What is shown?",
               "-n", "1", "--temp", "0", "-t", "1", "--report", "-"]
    report, end, ended = None, 0.0, threading.Event()
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as child,
    ):
        clock = ProcessorClock(child.pid)
        timer = threading.Timer(limit, lambda: (ended.set(), child.kill()))
        timer.start()
        for line in child.stdout:
            if line.startswith(b'{"model":'):
                report, end = json.loads(line), time.monotonic()
        status = child.wait()
        timer.cancel()
        clock.join()
        if ended.is_set():
            return None
        if status != 0 or report is None:
            said.seek(0)
            sys.exit(f"shapes: {' '.join(str(word) for word in command)}: status {status}: {said.read().strip()}")
    return {"seconds": parts(clock.at, end, report["ms"]), "report": report}


def row_layers(rows: list[int], ends: list[int]) -> int:
    """Rows summed over layers: `rows[i]` of them pass the layers up to `ends[i]`."""
    return sum(n * (end - begin) for n, begin, end in zip(rows, [0, *ends], ends))


def whole(row: dict) -> dict[str, float]:
    """Processor seconds of a row with all layers of its text model.

    The prompt's grow as its rows summed over layers do. That of a model with all its layers stays as it is.
    """
    seconds, tokens, shape = row["seconds"], row["report"]["tokens"], SHAPES.get(row["shape"])
    if shape is None:
        return seconds
    rows = [kept["tokens"] + tokens["text"] for kept in tokens["visual_kv"]]
    measured = row_layers(rows, [kept["layers"][1] for kept in tokens["visual_kv"]])
    prompt = seconds["prompt"] * row_layers(rows, [shape.merges, shape.layers][-len(rows):]) / measured
    return seconds | {"prompt": prompt, "first token": seconds["first token"] - seconds["prompt"] + prompt}


def ratios(rows: list[dict], over: str, under: str, part: str) -> list[float]:
    """Time of one arm over that of another, round by round, of rows of one shape and size."""
    times = {(row["arm"], row["round"]): row["seconds"][part] for row in rows}
    return [times[over, n] / times[under, n] for arm, n in sorted(times) if arm == over and (under, n) in times]


def _of(values: list[float]) -> str:
    if not values:
        return ""
    return f"{median(values):.2f} x" + (f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else "")


def table(rows: list[dict]) -> str:
    """A line for each shape, size and part: medians in seconds, with all layers, and ratios round by round."""
    lines = ["| model | a picture of | tokens | part | rounds | llama.cpp | off | merged | llama.cpp / merged | llama.cpp / off | off / merged |",
             "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for case in dict.fromkeys((row["shape"], row["size"]) for row in rows):
        ran = [row | {"seconds": whole(row)} for row in rows if (row["shape"], row["size"]) == case and row["seconds"]]
        merged = [row["report"]["tokens"] for row in ran if row["arm"] == "merged"]
        tokens = f"{merged[0]['visual']:,} > {merged[0]['visual_after_encoder']:,} > {merged[0]['visual_kv'][-1]['tokens']:,}" if merged else ""
        for part in PARTS:
            seconds = {arm: [row["seconds"][part] for row in ran if row["arm"] == arm] for arm in ARMS}
            cells = [f"{median(seconds[arm]):.2f} s" if seconds[arm] else "" for arm in ARMS]
            cells += [_of(ratios(ran, *pair, part)) for pair in (("llama.cpp", "merged"), ("llama.cpp", "off"), ("off", "merged"))]
            rounds = len({row["round"] for row in ran})
            lines.append(f"| {case[0]} | {case[1]} | {tokens} | {part} | {rounds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    args = parse()
    out = args.out or (None if args.quick else ROOT / "benches" / "runs" / f"shapes-{date.today()}.json")
    found = json.loads(out.read_text()) if out and out.exists() else {
        "benchmark": "shapes", "commit": machine.commit(ROOT), "machine": machine.describe(), "threads": 1,
        "text_type": args.type, "projector_type": "f16", "limit_s": args.limit, "rows": [],
    }
    rows = found["rows"]
    done = {(row["shape"], row["size"], row["round"], row["arm"]) for row in rows}
    tiny = ROOT / "target" / "test-models" / "projector-internvl"
    with tempfile.TemporaryDirectory() as folder:
        for size in ["640x360"] if args.quick else args.sizes.split(","):
            picture = noise(Path(folder) / f"{size}.bmp", 1, *(int(side) for side in size.split("x")))
            for name in ["tiny"] if args.quick else args.only or SHAPES:
                files = (tiny / "text.gguf", tiny / "mmproj.gguf") if args.quick else SHAPES[name].files(args.models, args.type, args.layers)
                for turn in range(args.rounds):
                    # The order turns round, as in the other benchmarks.
                    for arm in list(ARMS)[:: 1 if turn % 2 == 0 else -1]:
                        if (name, size, turn, arm) in done:
                            continue
                        load = machine.load()
                        ran = run(args.program, files, picture, ARMS[arm], args.limit) or {"seconds": None, "report": None}
                        rows.append({"shape": name, "size": size, "round": turn, "arm": arm, "load": load} | ran)
                        if out:
                            out.write_text(json.dumps(found, indent=1) + "\n")
                        print(f"{name}, {size}, round {turn + 1}, {arm}: "
                              + (", ".join(f"{part} {s:.2f} s" for part, s in ran["seconds"].items()) if ran["seconds"]
                                 else f"ended after {args.limit:.0f} s"), file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
