"""Calls of `illava eval`, each kept in a file: a command that was stopped goes on where it was."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .sets import SETS, find


@dataclass(frozen=True)
class Pair:
    name: str
    text: str
    projector: str

    def flags(self):
        return ("-m", self.text, "--mmproj", self.projector)


@dataclass
class Absent:
    """Reason why there is no result, as a cell shows it."""
    why: str


class Program:
    """An `illava` with its sets, and the folder that keeps what it measured."""

    def __init__(self, illava, sets, out, rest=(), say=None):
        self.illava, self.sets, self.out, self.rest = illava, Path(sets), Path(out), tuple(rest)
        self.kept = self.out / "runs"
        self.kept.mkdir(parents=True, exist_ok=True)
        self.say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self.reasons = {}

    def version(self):
        return self._call("--version").stdout.split("\n")[0]

    def _call(self, *args):
        return subprocess.run([self.illava, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def shape(self, pair):
        """What `illava inspect` says of a pair."""
        told = self._call("inspect", *pair.flags(), "--json")
        if told.returncode:
            raise SystemExit(f"paper: {pair.name}: {_last(told.stderr)}")
        return json.loads(told.stdout)

    def strategies(self, pair):
        """Names of the strategies that the program has, and why it refuses some on this pair."""
        told = self._call("inspect", *pair.flags(), "--strategy", "?")
        names = re.search(r"choose (.+)", told.stderr)
        found, refused = [], {}
        for name in re.split(r", | or ", names[1].strip()) if names else []:
            name = re.split(r"[ ;(]", name.strip().rstrip("."))[0]
            asked = self._call("inspect", *pair.flags(), "--strategy", name)
            if asked.returncode:
                refused[name] = _last(asked.stderr)
            else:
                found.append(name)
        return found, refused

    def run(self, pair, name, flags, against=()):
        """The summary of one call, or an `Absent`."""
        public = SETS[name]
        path = find(self.sets, public)
        if path is None:
            return Absent("not here")
        given = (*pair.flags(), "--set", str(path), *public.flags, *flags, *self.rest)
        if against:
            given += ("--against", ",".join(against))
        sizes = [Path(file).stat().st_size if Path(file).exists() else 0 for file in (pair.text, pair.projector)]
        digest = hashlib.sha256(json.dumps([given, sizes]).encode()).hexdigest()[:12]
        stem = re.sub(r"[^a-z0-9]+", "-", f"{pair.name} {name} {digest}".lower())
        rows = self.kept / f"{stem}.json"
        if not rows.exists():
            if (why := self.reasons.get(digest)) is not None:
                return Absent(why)
            summary = self._evaluate(pair, name, given, self.kept / stem)
            if isinstance(summary, Absent):
                self.reasons[digest] = summary.why
                return summary
            summary |= {"set": name, "model": pair.name}
            partial = rows.with_suffix(".partial")
            partial.write_text(json.dumps(summary, indent=1) + "\n")
            partial.replace(rows)
        return json.loads(rows.read_text()) | {"file": str(rows)}

    def _evaluate(self, pair, name, given, stem):
        self.say(f"{pair.name}, {name}: {' '.join(given[4:])}")
        fresh = stem.with_suffix(".rows")
        fresh.unlink(missing_ok=True)
        done = self._call("eval", *given, "--log", str(stem.with_suffix(".log")), "--json", str(fresh))
        summary = json.loads(fresh.read_text()) if fresh.exists() else {"rows": []}
        # Status 1 also says that some questions failed; a run that came to its end has its figures.
        ended = summary["rows"] and all(row["questions"] == row["asked"] for row in summary["rows"])
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode not in (0, 1) or not ended:
            self.say(f"  failed: {_last(done.stderr)}")
            return Absent(_short(_last(done.stderr)))
        fresh.unlink()
        return summary

    def draw(self, summaries, name, bars=False):
        """Draws kept results as `name` in the folder; whether there was anything to draw."""
        files = [flag for summary in summaries if not isinstance(summary, Absent) for flag in ("--from", summary["file"])]
        if not files:
            return False
        done = self._call("eval", *files, *(["--bars"] if bars else []), "--plot", str(self.out / name))
        if done.returncode:
            raise SystemExit(f"paper: {name}: {_last(done.stderr)}")
        return True


def _last(text):
    lines = [line for line in text.strip().splitlines() if line.startswith("error:")] or text.strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "no reason given"


def _short(why):
    if "judge" in why and "--judge" in why:
        return "no judge"
    return f"failed: {why}"
