#!/usr/bin/env python3
"""Shows how time grows with the tokens that merging keeps: one tile to ten tiles of a picture, and 8 to 32 frames of a video.

    benches/growth.py                 SigLIP-so400m F16 and the 0.5B in Q4_0, preset `paper`, one thread
    benches/growth.py --quick         the tests' tiny pair: shows that it works

A point is one `illava run`. Its time is the processor time of the process less that of the same question without a
picture. Loading then does not count, and a busy machine disturbs little. Writes JSON, an SVG with --plot, and a
straight line of least squares for pictures and one for videos, whose frames are pooled: seconds = a + b x tokens.
"""

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import linear_regression

from measure import machine, models
from measure.bitmap import noise

ROOT = Path(__file__).resolve().parent.parent
TILES = [(384, 384), (768, 384), (768, 768), (1152, 768), (1152, 1152), (1920, 768)]
FRAMES = [8, 16, 32]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "illava")
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-models", help="folder of the models")
    parser.add_argument("--merge", default="paper", help="preset (default paper)")
    parser.add_argument("--out", type=Path, help="the JSON file (default: benches/runs/growth-DATE.json)")
    parser.add_argument("--plot", type=Path, help="an SVG of the points and the line")
    parser.add_argument("--quick", action="store_true", help="a tiny pair, two pictures; no JSON unless --out")
    return parser.parse_args()


def pair(args: argparse.Namespace) -> tuple[Path, Path]:
    if args.quick:
        tiny = ROOT / "target" / "test-models" / "onevision-27-f32"
        return tiny / "text.gguf", tiny / "mmproj.gguf"
    return (
        models.written(args.models, "qwen2-0.5b-q4_0.gguf", ["--timing", "qwen2-0.5b", "--type", "q4_0"]),
        models.written(args.models, "siglip-so400m-896-llava_onevision-f16.gguf",
                       ["--timing", "siglip-so400m", "--type", "f16", "--projection", "896", "--family", "llava_onevision"]),
    )


def run(args: argparse.Namespace, files: tuple[Path, Path], shown: list[str]) -> tuple[float, dict]:
    """Processor seconds of one question, and its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [args.program, "run", "-m", files[0], "-mm", files[1], *shown, "--merge", args.merge, "-p", "What is shown?",
                   "-n", "1", "--temp", "0", "-t", "1", "-c", "16384", "--report", report]
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"growth: {' '.join(str(word) for word in command)}: status {os.waitstatus_to_exitcode(status)}")
        return usage.ru_utime + usage.ru_stime, json.loads(report.read_text())


def lines(points: list[dict]) -> dict[str, tuple[float, float]]:
    """Seconds at no tokens and seconds a token, of pictures and of videos."""
    found = {}
    for kind in dict.fromkeys(point["kind"] for point in points):
        of_kind = [point for point in points if point["kind"] == kind]
        slope, intercept = linear_regression([p["kept"] for p in of_kind], [p["seconds"] for p in of_kind])
        found[kind] = intercept, slope
    return found


def steps(most: float) -> list[float]:
    """Round numbers from 0 that reach over `most`, about five of them."""
    size = 10 ** math.floor(math.log10(most / 5))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * 5 >= most)
    return [step * i for i in range(math.ceil(most / step) + 1)]


def svg(points: list[dict]) -> str:
    """Points and lines, tokens across and seconds up."""
    width, height, left, top = 760, 460, 70, 30
    across, up = steps(max(p["kept"] for p in points)), steps(max(p["seconds"] for p in points))
    most, longest = across[-1], up[-1]

    def at(tokens: float, seconds: float) -> tuple[float, float]:
        return left + tokens / most * (width - left - 30), height - 60 - seconds / longest * (height - 60 - top)

    def text(x: float, y: float, words: str, more: str = "") -> str:
        return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{words}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="14">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for tokens in across:
        x, bottom = at(tokens, 0)
        out.append(text(x, bottom + 20, f"{tokens:g}", 'text-anchor="middle"'))
    for seconds in up:
        _, y = at(0, seconds)
        out += [f'<path d="M{left} {y:.1f}H{width - 30}" stroke="#ddd"/>', text(left - 8, y + 5, f"{seconds:g}", 'text-anchor="end"')]
    for kind, (intercept, slope) in lines(points).items():
        ends = [p["kept"] for p in points if p["kind"] == kind]
        (x0, y0), (x1, y1) = (at(x, intercept + slope * x) for x in (min(ends), max(ends)))
        out.append(f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="#666" stroke-dasharray="6 4"/>')
    for i, point in enumerate(sorted(points, key=lambda p: (p["kind"], p["kept"]))):
        x, y = at(point["kept"], point["seconds"])
        # Videos above their line, pictures beside or below theirs by turns, so that names keep apart.
        above = point["kind"] == "video"
        name = text(x - 8, y - 9, point["shows"], 'text-anchor="end"') if above else text(x + 8, y + (4 if i % 2 else 22), point["shows"])
        colour = "#d55e00" if point["kind"] == "video" else "#0072b2"
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>', name]
    out += [text(width / 2, height - 14, "visual tokens kept", 'text-anchor="middle"'),
            text(left - 40, 18, "processor seconds to the first token, one thread; lines: least squares"), "</svg>"]
    return "\n".join(out) + "\n"


def main() -> None:
    args = parse()
    files = pair(args)
    points = []
    base, _ = run(args, files, [])
    with tempfile.TemporaryDirectory() as folder:
        shows = [(f"{w}x{h}", ["--image", str(noise(Path(folder) / f"{w}x{h}.bmp", 1, w, h))]) for w, h in TILES[: 2 if args.quick else None]]
        frames = [str(noise(Path(folder) / f"frame{i:02}.bmp", i, 640, 360)) for i in range(0 if args.quick else max(FRAMES))]
        shows += [(f"{n} frames", ["--video", ",".join(frames[:n])]) for n in (FRAMES if frames else [])]
        for name, shown in shows:
            seconds, report = run(args, files, shown)
            tokens = report["tokens"]
            points.append({"shows": name, "kind": "video" if "--video" in shown else "picture", "visual": tokens["visual"], "kept": tokens["visual_kv"][-1]["tokens"], "seconds": seconds - base,
                           "ms": report["ms"]})
            print(f"{name}: {tokens['visual']} tokens, {points[-1]['kept']} kept, {points[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    found = lines(points)
    print("| shown | tokens | kept | processor seconds | of the line |", "|---|--:|--:|--:|--:|", sep="\n")
    for point in points:
        intercept, slope = found[point["kind"]]
        line = intercept + slope * point["kept"]
        print(f"| {point['shows']} | {point['visual']} | {point['kept']} | {point['seconds']:.2f} | {point['seconds'] / line:.2f} |")
    print()
    for kind, (intercept, slope) in found.items():
        print(f"{kind}: seconds = {intercept:.2f} + {1000 * slope:.2f} x thousands of tokens kept")
    out = args.out or (None if args.quick else ROOT / "benches" / "runs" / f"growth-{datetime.date.today()}.json")
    if out:
        about = {"benchmark": "growth", "commit": machine.commit(ROOT), "machine": machine.describe(), "merge": args.merge}
        out.write_text(json.dumps(about | {"lines": found, "points": points}, indent=1) + "\n")
    if args.plot:
        args.plot.write_text(svg(points))


if __name__ == "__main__":
    main()
