#!/usr/bin/env python3
"""Runs the paper's large models once with merging off and on, and reads their memory from the reports.

    benches/memory.py                        all cases: 26 GB of models, hours of processor time
    benches/memory.py --only onevision-video one case
    benches/memory.py --quick                the tests' tiny pair: shows that it works

Weights are random, in the true shapes and types: memory depends on nothing else. Every run is a process of its own,
`illava run --report`; a figure is what that report says (`bytes.kv` and `bytes.compute` as allocated, `bytes.peak_rss`
the process's VmHWM). Rows are kept in the JSON file as they come, and a call that was stopped goes on from the last
one. Missing models are written to --models.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import machine
from measure.bitmap import noise

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
ANSWER = 2


@dataclass(frozen=True)
class Case:
    """`shows` are frames of 640x360, or a picture's width and height; `schedules` are flags by their names."""

    text: tuple[str, str]
    tower: tuple[str, str, int, str]
    shows: int | tuple[int, int]
    schedules: dict[str, list[str]]
    short: list[str]
    batch: int = 8192


_VIDEO = {"off": ["--merge", "off"], "on": ["--merge", "video", "--grid", "reference"],
          "on, faithful": ["--merge", "video"]}
_IMAGE = {"off": ["--merge", "off"], "on": ["--merge", "image", "--grid", "reference"],
          "on, faithful": ["--merge", "image"]}
CASES = {
    "onevision-video": Case(("qwen2-7b", "q4_k"), ("siglip-so400m", "f16", 3584, "llava_onevision"), 32, _VIDEO,
                            ["--video-frames", "1"]),
    "onevision-anyres": Case(("qwen2-7b", "q4_k"), ("siglip-so400m", "f16", 3584, "llava_onevision"), (2000, 1500), _IMAGE,
                             ["--image-max-tokens", "729"]),
    "next-34b": Case(("yi-34b", "q4_0"), ("clip-l-336", "f16", 7168, "llava_next"), (1500, 1500),
                     {"off": ["--merge", "off"], "on": ["--merge", "image"]}, ["--image-max-tokens", "576"], 4096),
}


def _written(folder: Path, name: str, arguments: list[str]) -> Path:
    path = folder / name
    if not path.exists():
        print(f"writing {name}", file=sys.stderr)
        prepared = ROOT / "target" / "python" / "bin" / "python"
        python = str(prepared) if prepared.exists() else sys.executable
        command = [python, str(ROOT / "tools" / "make_model.py"), "--out", str(folder), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def pair(case: Case, folder: Path) -> tuple[Path, Path]:
    shape, kind = case.text
    text = _written(folder, f"{shape}-{kind}.gguf", ["--timing", shape, "--type", kind])
    shape, kind, width, family = case.tower
    tower = _written(folder, f"{shape}-{width}-{family}-{kind}.gguf",
                     ["--timing", shape, "--type", kind, "--projection", str(width), "--family", family])
    return text, tower


def shown(case: Case, folder: Path) -> list[str]:
    if isinstance(case.shows, tuple):
        return ["--image", str(noise(folder / "picture.bmp", 1, *case.shows))]
    frames = folder / "frames"
    frames.mkdir()
    for i in range(case.shows):
        noise(frames / f"frame{i}.bmp", i, 640, 360)
    return ["--video", str(frames)]


def run(program: Path, models: tuple[Path, Path], what: list[str], schedule: list[str], batch: int, more: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        rows = ["-b", str(batch), "-ub", str(batch)]
        command = [str(program), "run", "-m", str(models[0]), "-mm", str(models[1]), *what, *schedule, *rows,
                   "-p", "What is shown?", "-n", str(ANSWER), "--temp", "0", "--report", str(report), *more]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"memory: {' '.join(command)}: {done.stderr.strip()}")
        return json.loads(report.read_text())


def cells(rows: list[dict], case: str) -> int:
    """Cells that the case's prompt and answer take without merging."""
    merged = [row["report"]["tokens"] for row in rows if row["case"] == case and row["merging"] != "off"]
    if not merged:
        sys.exit(f"memory: {case}: --context-only needs a run with merging first, whose tokens it counts")
    return merged[0]["visual"] + merged[0]["text"] + ANSWER


def table(rows: list[dict]) -> str:
    """One line for each run, with the bytes of cache and buffers against those of `off` with the same rows at once."""
    lines = ["| case | merging | tokens | KV | compute | both, of off | peak of the process | prefill |",
             "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        report = row["report"]
        both = report["bytes"]["kv"] + report["bytes"]["compute"]
        alike = [r for r in rows if (r["case"], r["rows"], r["merging"]) == (row["case"], row["rows"], "off")]
        share = f"{both / sum(alike[0]['report']['bytes'][k] for k in ('kv', 'compute')):.2f}" if alike else ""
        tokens = report["tokens"]
        kept = [tokens["visual"], *(kv["tokens"] for kv in tokens["visual_kv"])] if row["merging"] != "off" else [tokens["visual"]]
        peak = report["bytes"]["peak_rss"]
        merging = row["merging"] + (", context only" if "-c" in row["flags"] else "")
        lines.append(" | ".join([
            f"| {row['case']}, {row['rows']} rows at once", merging, " > ".join(map(str, kept)),
            f"{report['bytes']['kv'] / MIB:.0f} MiB", f"{report['bytes']['compute'] / MIB:.0f} MiB", share,
            f"{peak / 1e9:.2f} GB" if peak else "", f"{report['ms']['prefill'] / 1000:.0f} s |",
        ]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--merging", nargs="+", metavar="NAME", help="of off, on and `on, faithful` (default: all)")
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-models", help="folder of the models")
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "illava")
    parser.add_argument("--rows", type=int, help="rows of the prompt at once (default: enough for all of them)")
    parser.add_argument("--context-only", action="store_true",
                        help="with merging off, show one view in the context that all would need: its bytes in minutes; after `on`")
    parser.add_argument("--out", type=Path, help="the JSON file (default: benches/runs/memory-DATE.json)")
    parser.add_argument("--quick", action="store_true", help="a tiny pair, no JSON unless --out")
    parser.add_argument("more", nargs="*", help="after --: flags for every run, as -t 1 or --no-repack")
    args = parser.parse_args()
    out = args.out or (None if args.quick else ROOT / "benches" / "runs" / f"memory-{datetime.date.today()}.json")
    found = json.loads(out.read_text()) if out and out.exists() else {"machine": machine.describe(), "rows": []}
    for name in ["onevision-video"] if args.quick else args.only:
        case = CASES[name]
        if args.quick:
            tiny = ROOT / "target" / "test-models" / "onevision-27-f32"
            models, name = (tiny / "text.gguf", tiny / "mmproj.gguf"), "tiny"
        else:
            models = pair(case, args.models)
        rows = args.rows or case.batch
        with tempfile.TemporaryDirectory() as folder:
            what = shown(case, Path(folder))
            for merging, schedule in case.schedules.items():
                known = any((r["case"], r["merging"], r["rows"]) == (name, merging, rows) for r in found["rows"])
                if known or (args.merging and merging not in args.merging):
                    continue
                more = list(args.more)
                if args.context_only and merging == "off":
                    more += ["-c", str(cells(found["rows"], name)), *case.short]
                print(f"{name}, {merging}", file=sys.stderr)
                report = run(args.program, models, what, schedule, rows, more)
                found["rows"].append({"case": name, "merging": merging, "rows": rows, "flags": more, "report": report})
                if out:
                    out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["rows"]))


if __name__ == "__main__":
    main()
