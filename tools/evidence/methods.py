"""Measures the published methods at equal numbers of tokens; in tools/:

    python -m evidence.methods --pair NAME -m text.gguf -mm mmproj.gguf --set questions.jsonl [--pair ...] --page methods.md

Asks each pair `--each` questions, drawn at even distances from its set, by `illava eval`: with merging off, by the
paper's budget and by a quarter of the tokens, each method in the same call. Writes a table with 95 % intervals over
questions and times: the median, over questions, of the ratio to merging off, which answers the same question in the same
turn. Needs an `illava`.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

METHODS = ("fastv", "pyramiddrop", "sparsevlm", "zipvl", "look-m", "look-m-averaged", "look-m-weighted", "visionzip", "hired", "prumerge")
RULES = ("prune", "bipartite")
BUDGETS = {"the paper's budget": (("--merge", "paper"), "paper"), "25 %": (("--merge", "paper", "--keep", "0.25"), "0.25")}


def some_of(path: Path, each: int, out: Path) -> Path:
    """Writes to `out` a set of `each` questions of `path`, at even distances, with pictures by whole paths."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    lines = [lines[i * len(lines) // each] for i in range(min(each, len(lines)))]
    for line in lines:
        given = line["image"] if "image" in line else line["images"]
        paths = [str((path.parent / name).resolve()) for name in ([given] if isinstance(given, str) else given)]
        line["image" if isinstance(given, str) else "images"] = paths[0] if isinstance(given, str) else paths
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def measured(illava: str, model: list[str], asked: Path, flags: tuple, name: str, rest: list[str]) -> list[dict]:
    """Rows of all questions together, one for each schedule."""
    rows, log = asked.with_suffix(".rows.json"), asked.with_suffix(f".{name.replace('/', '-')}.log")
    against = ",".join(f"{name}/{method}" for method in (*RULES, *METHODS))
    command = [illava, "eval", *model, "--set", str(asked), *flags, "--against", against, *rest, "--json", str(rows), "--log", str(log)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"methods: {' '.join(command)}\n{done.stderr.strip()}")
    times = ratios([json.loads(line) for line in log.read_text().splitlines()])
    found = [row for row in json.loads(rows.read_text())["rows"] if row["category"] == ""]
    return [row | {"ratios": times[row["schedule"]]} for row in found]


def ratios(lines: list[dict]) -> dict[str, dict[str, float]]:
    """Of each schedule the median ratio of its times to those of the first, question by question."""
    of: dict[str, dict[str, dict]] = {}
    for line in lines:
        if "schedule" in line:
            of.setdefault(line["schedule"], {})[line["item"]] = line["cost"]["ms"]
    off = next(iter(of.values()))
    middle = lambda times, part: statistics.median(ms[part] / off[item][part] for item, ms in times.items())
    return {name: {part: middle(times, part) for part in ("encoder", "prefill", "first_token")} for name, times in of.items()}


def points(share: dict, sign: str = "") -> str:
    mean, low, high = (f"{100 * share[part]:{sign}.1f}" for part in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def table(rows: list[dict]) -> list[str]:
    off = rows[0]
    lines = ["| schedule | points | difference | tokens | encoder | prompt | first token |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        label = row["schedule"].split("/")[-1] if "/" in row["schedule"] else row["schedule"]
        difference = "" if row is off else points(row["difference"], "+")
        times = (f"{row['ratios'][part]:.2f} x" for part in ("encoder", "prefill", "first_token"))
        tokens = f"{row['visual_tokens']:.0f}, {row['visual_tokens_deepest']:.0f}"
        lines.append(f"| {label} | {points(row['accuracy'])} | {difference} | {tokens} | {' | '.join(times)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--illava", default="illava")
    parser.add_argument("--pair", action="append", required=True, help="a name, for each of the next three")
    parser.add_argument("-m", "--model", action="append", type=Path, required=True)
    parser.add_argument("-mm", "--mmproj", action="append", type=Path, required=True)
    parser.add_argument("--set", action="append", type=Path, required=True)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--page", type=Path, required=True)
    args, rest = parser.parse_known_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model, mmproj, path in zip(args.pair, args.model, args.mmproj, args.set, strict=True):
            asked = some_of(path, args.each, Path(folder) / f"{name}.jsonl")
            for title, (flags, schedule) in BUDGETS.items():
                files = ["-m", str(model), "-mm", str(mmproj)]
                rows = measured(args.illava, files, asked, flags, schedule, rest)
                lines += [f"### {name}, {title}, {rows[0]['questions']} questions", "", *table(rows), ""]
                print("\n".join(lines[-len(rows) - 5 :]), flush=True)
                args.page.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
