"""docs/evidence-real.md, from the results of `python -m real evidence` and the words beside them."""

import json
import re
from pathlib import Path

_SETS = {"photographs": "Photographs", "compositions": "Compositions with true masks", "pages": "Pages of text"}


def store(file: Path, results: dict) -> None:
    """Writes the results as JSON, a row a line, so that a change shows its row."""
    text = json.dumps(results, indent=1)
    row = re.compile(r"\{\s*\"(?:set|share|picture)\"[^{}]*\}")
    file.write_text(row.sub(lambda match: re.sub(r"\s*\n\s*", " ", match[0]), text) + "\n")


def _interval(values: list[float] | None, digits: int) -> str:
    if values is None:
        return ""
    mean, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{mean} [{low}, {high}]"


def _tower(found: dict) -> list[str]:
    lines = []
    for kind, heading in _SETS.items():
        masked = kind == "compositions"
        lines += [
            f"### {heading}, {found['pictures'][kind]}", "",
            f"| of {found['unmerged']} | rule | class token | size-weighted mean | cover |{' cover of the thing |' if masked else ''} nearest the same |",
            f"|---|---|---|---|---|{'---|' if masked else ''}---|",
        ]
        for row in (row for row in found["rows"] if row["set"] == kind):
            cells = [str(row["tokens"]), row["rule"], _interval(row["class token"], 4), _interval(row["mean"], 4), _interval(row["cover"], 3)]
            cells += [_interval(row["things"], 3)] if masked else []
            lines.append(f"| {' | '.join([*cells, '' if row['nearest'] is None else format(row['nearest'], '.2f')])} |")
        lines.append("")
    return lines


def _pair(found: dict) -> list[str]:
    baselines = [name.removeprefix("less than ") for name in found["rows"][-1] if name.startswith("less than ")]
    lines = [
        f"| of {found['unmerged']} | rule | KL, nats a token | answer the same | KL less than {' | than '.join(baselines)} |",
        "|---|---|---|---|" + "---|" * len(baselines),
    ]
    for row in found["rows"]:
        less = [_interval(row.get(f"less than {name}"), 3) for name in baselines]
        lines.append(f"| {row['tokens']}, {row['deepest']} | {row['rule']} | {_interval(row['kl'], 3)} | {row['agrees']:.2f} | {' | '.join(less)} |")
    return lines


def page(results: dict, words: str) -> str:
    """The page. `words` has a section for what stands above each table, headed `## tower`, `## pair` and `## end`."""
    said = {"": []}
    for line in words.splitlines():
        heading = re.match(r"## (tower|pair|end)$", line)
        if heading:
            at = said.setdefault(heading[1], [])
        else:
            (at if len(said) > 1 else said[""]).append(line)
    parts = {name: "\n".join(lines).strip() for name, lines in said.items()}
    lines = [parts[""], "", "## The tower alone", "", parts.get("tower", ""), "", *_tower(results["tower"])]
    if "pair" in results:
        lines += ["## The pair", "", parts.get("pair", ""), "", *_pair(results["pair"]), ""]
    return "\n".join([*lines, parts.get("end", "")]).rstrip() + "\n"


def write(results: Path, words: Path, out: Path) -> None:
    """Renders the committed results."""
    out.write_text(page(json.loads(results.read_text()), words.read_text()))
