#!/usr/bin/env python3
"""Times several conversations at once, through `illava batch`.

    benches/slots.py             both figures; 10 minutes or so on two quiet cores
    benches/slots.py --quick     tiny models, one round: shows that it works

- A second question about the same picture: time to its first token against that of the first.
- Throughput of 8 image chats at once, each about its own picture: merging off against on, from the
  arrival of all to the end of the last.

Off and on alternate, each run a process of its own; the ratios of neighbouring runs count, their
median and range. Writes a Markdown table to standard output and one JSON file to benches/runs/.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import machine, models, table
from measure.bitmap import noise
from measure.rounds import Goal, Row

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "What is in this picture, and what is it made of?"
SECOND = "Which colours does it have, and where?"


class Benchmark:
    def __init__(self, args: argparse.Namespace, files: models.Models, folder: Path):
        self.args, self.files, self.folder = args, files, folder
        self.side = 336 if args.quick else 384
        # Four bytes a pixel row would need padding otherwise.
        assert self.side % 4 == 0

    def batch(self, requests: list[dict], slots: int) -> list[dict]:
        """The reports of `requests`, all sent at once."""
        path = self.folder / "requests.jsonl"
        path.write_text("".join(json.dumps(request) + "\n" for request in requests))
        command = [self.args.program, "batch", path, "-m", self.files.small, "-mm", self.files.tower]
        command += ["-np", slots, "-c", 1024 * slots, "-t", self.args.threads, "--temp", 0]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode != 0 or len(answers) != len(requests):
            sys.exit(f"illava batch ended with status {done.returncode}: {[a['error'] for a in answers if 'error' in a]}")
        return [answer["report"] for answer in answers]

    def second_question(self) -> list[float]:
        ratios = []
        for turn in range(self.args.rounds):
            image = str(noise(self.folder / "same.bmp", 100 + turn, self.side, self.side))
            ask = {"image": image, "max_tokens": 2, "merge": "paper"}
            # One slot: the second waits for the first, which is no part of its own time.
            reports = self.batch([ask | {"prompt": QUESTION}, ask | {"prompt": SECOND}], 1)
            first, second = (report["ms"] for report in reports)
            waited = max(0.0, first["total"] - first["decode_media"])
            own = second["first_token"] - waited
            ratios.append(first["first_token"] / own)
            self.log(f"second question: {first['first_token']:.0f} ms, then {own:.0f} ms")
        return ratios

    def throughput(self) -> list[float]:
        times: dict[str, list[float]] = {"off": [], "paper": []}
        for turn in range(-1, self.args.rounds):  # the first is the warm-up
            for merge in list(times)[:: 1 if turn % 2 == 0 else -1]:
                images = [str(noise(self.folder / f"{i}.bmp", i, self.side, self.side)) for i in range(8)]
                requests = [
                    {"image": image, "prompt": QUESTION, "max_tokens": self.args.tokens, "merge": merge} for image in images
                ]
                reports = self.batch(requests, 8)
                ms = max(report["ms"]["total"] for report in reports)
                tokens = [report["tokens"]["generated"] for report in reports]
                self.log(f"{merge}: {ms:.0f} ms for {sum(tokens)} tokens")
                if turn >= 0:
                    # Random weights may end an answer early: the rate counts, not the time.
                    times[merge].append(ms / sum(tokens))
        return [off / on for off, on in zip(times["off"], times["paper"], strict=True)]

    def log(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny models, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32, help="of each of the 8 answers")
    parser.add_argument("--only", choices=["second", "throughput"])
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "illava")
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-models")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
        files = models.tiny(args.models)
    else:
        files = models.timing(args.models, {"siglip-so400m-f16.gguf", "qwen2-0.5b-q4_0.gguf"})
    name = f"{files.names['tower']}, {files.names['small']}"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Benchmark(args, files, Path(folder))
        if args.only != "throughput":
            goal = None if args.quick else Goal(low=10)
            what = f"time to first token, {name}: first question about a picture / second"
            rows.append(Row(what, args.threads, bench.second_question(), goal))
        if args.only != "second":
            goal = None if args.quick else Goal(low=1.8)
            what = f"8 image chats at once, {args.tokens} tokens each, {name}: off / merged"
            rows.append(Row(what, args.threads, bench.throughput(), goal))
    print(table.markdown(rows))
    out = args.out or ROOT / "benches" / "runs" / f"slots-{datetime.date.today()}.json"
    if args.quick and not args.out:
        return
    result = {
        "machine": machine.describe(),
        "load": machine.load(),
        "commit": machine.commit(ROOT),
        "rows": [row.as_json() for row in rows],
    }
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
