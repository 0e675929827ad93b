"""Times this library beside OpenVINO and transformers, with merging off and on, and beside the processor's limits.

    cd benches
    python3 -m peers                              the 0.5B pair, threads 1 and 2, 5 rounds: minutes
    python3 -m peers --pairs 7B --rounds 3        a 7B: 16 GB of memory, an export that takes 7 GB once
    python3 -m peers --parts encoder              one piece of the work

The first call installs the peers to target/peers (3 GB) and writes the models. All parties are asked in turn, and a ratio
is of two runs of one round. One thread is timed by processor time, several by the wall. Prints a Markdown table, writes JSON.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from measure import machine, models  # noqa: E402
from measure.child import ChildError  # noqa: E402

from .comparison import PAIRS, Comparison, Pair, table  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=["0.5B"], metavar="PAIR", help=f"of {'; '.join(PAIRS)}")
    parser.add_argument("--parts", nargs="+", choices=("encoder", "prompt", "first token"), default=["encoder", "prompt", "first token"])
    parser.add_argument("--no-torch", action="store_true", help="leave transformers out: a processor without bf16 emulates it")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="after the warm-up (default 5)")
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench-models", help="folder of this library's models")
    parser.add_argument("--programs", type=Path, nargs=3, metavar=("STOCK", "OURS", "PEAKS"), help="programs built before, instead of building")
    parser.add_argument("--out", type=Path, help="the JSON file (default: benches/runs/peers-DATE.json)")
    return parser.parse_args()


def build() -> dict[str, Path]:
    def made(program: str) -> list[Path]:
        command = [str(ROOT / "tools" / "stock-build.sh"), program]
        return [Path(line) for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()]

    stock, ours = made("bench-pair")
    return {"stock": stock, "ours": ours, "peaks": made("bench-peaks")[-1]}


def main() -> int:
    args = parse()

    def files(pair: Pair) -> tuple[Path, Path]:
        text = models.written(args.models, f"{pair.text}-{pair.types[1]}.gguf", ["--timing", pair.text, "--type", pair.types[1]])
        kind, width = pair.types[0], str(pair.width)
        tower = models.written(args.models, f"{pair.tower}-{width}-{kind}.gguf",
                               ["--timing", pair.tower, "--type", kind, "--projection", width])
        return text, tower

    started = datetime.datetime.now(datetime.timezone.utc)
    out = args.out or ROOT / "benches" / "runs" / f"peers-{started:%Y-%m-%d-%H%M}.json"

    def save() -> None:
        about = {"benchmark": "peers", "commit": machine.commit(ROOT), "machine": machine.describe(),
                 "started": started.isoformat(timespec="seconds"), "load_average": machine.load(),
                 "requirements": (Path(__file__).parent / "requirements.txt").read_text().splitlines()[1:]}
        run = about | {"settings": comparison.settings, "rows": [line.as_json() for line in comparison.lines]}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(run, indent=1) + "\n")

    programs = dict(zip(("stock", "ours", "peaks"), args.programs)) if args.programs else build()
    comparison = Comparison(programs, files, args.rounds, args.parts, save, not args.no_torch)
    try:
        for name in args.pairs:
            for threads in args.threads:
                comparison.run(name, threads)
    except ChildError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    print(table(comparison.lines, comparison.peaks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
