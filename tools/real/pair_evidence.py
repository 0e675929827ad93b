"""The pair, measured on the engine: how far answers about named photographs move from merging off."""

import json
from pathlib import Path

import numpy as np

from . import measures, packages, sets, settings
from .engine import Nearness
from .export import SIDE
from .tower import PATCH

TOKENS = (SIDE // PATCH) ** 2
QUESTION = "What is in the picture?"
# The rules that merging has to beat, at equal tokens.
BASELINES = ("merge, own", "merge, closed", "prune, own", "random, own")


def rules() -> list[tuple]:
    """Share, strategy, positions and sizes of every row."""
    return [(share, *rule) for share in settings.SHARES for rule in settings.PAIR_RULES]


def measure(work: Path, text: Path, projector: Path, debs: Path, each: int, threads: int = 1) -> None:
    """Adds what is missing to `pair.jsonl` in `work`: a line for each photograph."""
    log = work / "pair.jsonl"
    done = {json.loads(line)["picture"] for line in log.read_text().splitlines()} if log.is_file() else set()
    asked = [settings.both(TOKENS, *rule) for rule in rules()]
    engine = Nearness("answers", text, projector, threads)
    photographs = sets.named(packages.debian("gcompris-qt-data", debs))
    step = len(photographs) / each
    for i in range(each):
        name, kind, picture = photographs[int(i * step)]
        if name in done:
            continue
        picture.save(work / "asked.png")
        rows = engine.answers(work / "asked.png", QUESTION, asked)
        with log.open("a") as file:
            file.write(json.dumps({"picture": name, "kind": kind, "said": rows[0]["said"], "rows": rows}) + "\n")
        print(f"{name}: {rows[0]['said']}", flush=True)
    engine.close()


def summary(work: Path) -> dict:
    """Means and intervals of every row, and of its difference from each baseline at equal tokens, picture by picture."""
    lines = [json.loads(line) for line in (work / "pair.jsonl").read_text().splitlines()]
    kl = np.array([[row["kl"] for row in line["rows"]] for line in lines])
    agrees = np.array([[row["agrees"] for row in line["rows"]] for line in lines])
    at = {(share, settings.pair_name(*rule)): i for i, (share, *rule) in enumerate(rules())}
    rows = []
    for (share, rule), i in at.items():
        row = {"share": share, "rule": rule, "tokens": lines[0]["rows"][i]["tokens"], "deepest": lines[0]["rows"][i]["deepest"]}
        row["kl"] = [round(value, 4) for value in measures.interval(kl[:, i])]
        row["agrees"] = round(float(agrees[:, i].mean()), 3)
        for baseline in BASELINES:
            if baseline != rule:
                row[f"less than {baseline}"] = [round(value, 4) for value in measures.interval(kl[:, at[share, baseline]] - kl[:, i])]
        rows.append(row)
    told = [{name: line[name] for name in ("picture", "kind", "said")} for line in lines]
    return {"pictures": told, "unmerged": TOKENS, "rows": rows}
