"""Calls `illava eval` for each run and keeps what came out."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_FIGURES = ("questions", "failures", "visual_tokens", "visual_tokens_deepest", "encoder_ms", "prefill_ms",
            "total_ms", "kv_bytes")


@dataclass(frozen=True)
class Subject:
    """Pair and sets to evaluate: `model` and `rest` are flags of `illava eval`, `sets` files by name."""
    illava: str
    model: tuple
    rest: tuple
    sets: dict
    work: Path      # logs of unfinished calls

    def knows_strategies(self):
        told = subprocess.run([self.illava, "eval", "--help"], check=True, stdout=subprocess.PIPE, text=True)
        return "--strategy" in told.stdout


def split_set(path, prefix, work):
    """Two sets of one .jsonl: questions whose kind begins with `prefix` are the dense ones."""
    parts = {"sparse": [], "dense": []}
    for line in path.read_text().splitlines():
        question = json.loads(line)
        for key in ("image", "images"):
            if isinstance(question.get(key), str):
                question[key] = str((path.parent / question[key]).resolve())
            elif key in question:
                question[key] = [str((path.parent / name).resolve()) for name in question[key]]
        dense = str(question.get("kind", "")).startswith(prefix)
        parts["dense" if dense else "sparse"].append(json.dumps(question))
    found = {}
    for name, lines in parts.items():
        found[name] = work / f"{name}.jsonl"
        found[name].write_text("\n".join(lines) + "\n")
    return found


def evaluate(subject, run, strategies, say=print):
    """{set: rows} of one run; a call that was stopped goes on from its log."""
    found = {}
    for name, path in subject.sets.items():
        stem = re.sub(r"[^a-z0-9]+", "-", f"{run.key} {name}{' s' if strategies else ''}".lower())
        rows, log = subject.work / f"{stem}.json", subject.work / f"{stem}.log"
        against = ("--against", ",".join(run.strategies)) if strategies and run.strategies else ()
        limit = ("--limit", str(run.limit)) if run.limit and "--limit" not in subject.rest else ()
        command = [subject.illava, "eval", *subject.model, *run.flags, *against, *limit, *subject.rest,
                   "--set", str(path), "--log", str(log), "--json", str(rows)]
        say(f"{run.key}, {name}")
        rows.unlink(missing_ok=True)
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        summary = json.loads(rows.read_text()) if rows.exists() else {"rows": []}
        # Status 1 also says that some questions failed; a run that came to its end still has its figures.
        came_to_its_end = summary["rows"] and all(row["questions"] == row["asked"] for row in summary["rows"])
        if done.returncode not in (0, 1) or not came_to_its_end:
            raise SystemExit(f"evidence: {' '.join(command)}\n{done.stderr.strip()}")
        # Kind by kind in one table; elsewhere that would bury the rest.
        kept = [row for row in summary["rows"] if run.table in ("schedules", "presets") or row["category"] == ""]
        found[name] = {"metric": summary["metric"], "rows": [_short(row) for row in kept]}
    return found


def _short(row):
    """A row with the digits that mean something."""
    short = {"schedule": row["schedule"], "category": row["category"]}
    short |= {name: round(row[name], 2) for name in _FIGURES}
    short |= {name: [round(row[name][part], 4) for part in ("mean", "low", "high")]
              for name in ("accuracy", "difference")}
    return short


def collect(subject, runs, results, only=None, say=None):
    """Adds to the file `results` what it lacks of `runs`; whole runs, by rename."""
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    kept = json.loads(results.read_text()) if results.exists() else {"runs": {}}
    strategies = subject.knows_strategies()
    version = subprocess.run([subject.illava, "--version"], check=True, stdout=subprocess.PIPE, text=True)
    for run in runs:
        missing = strategies and run.strategies
        known = kept["runs"].get(run.key)
        if (known and (known["strategies"] or not missing)) or (only and run.table not in only):
            continue
        entry = {"table": run.table, "name": run.name, "flags": list(run.flags),
                 "strategies": list(run.strategies) if missing else [],
                 "sets": evaluate(subject, run, missing, say)}
        kept["version"] = version.stdout.split("\n")[0]
        kept["runs"][run.key] = entry
        kept["order"] = [r.key for r in runs if r.key in kept["runs"]]
        partial = results.with_suffix(".partial")
        partial.write_text(_lines(kept))
        os.replace(partial, results)
    return kept


def _lines(kept):
    """JSON with one row a line, so that a change shows its row."""
    text = json.dumps(kept, indent=1)
    return re.sub(r"\{\s*(\"schedule\"[^{}]*?)\s*\}",
                  lambda match: "{" + re.sub(r"\s*\n\s*", " ", match[1]) + "}", text) + "\n"
