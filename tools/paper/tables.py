"""Tables as Markdown and CSV: cells with their number of questions and 95 % intervals."""

import csv
import io
import math
from dataclasses import dataclass, field

from .runs import Absent
from .sets import SETS


@dataclass
class Value:
    """One figure of one schedule on one set."""
    shown: str
    n: int
    mean: float
    low: float | None = None
    high: float | None = None
    # Difference against off on the same questions: mean, low, high.
    against: tuple | None = None


@dataclass
class Table:
    number: str
    title: str
    about: str
    columns: list
    rows: list = field(default_factory=list)    # (label, cells); a cell is a Value, an Absent or a text
    notes: list = field(default_factory=list)

    def add(self, label, cells):
        self.rows.append((label, cells))

    def markdown(self):
        lines = [f"## {self.title}", "", self.about, "", "| | " + " | ".join(self.columns) + " |", "|---|" + "---|" * len(self.columns)]
        lines += [f"| {label} | " + " | ".join(shown(cell) for cell in cells) + " |" for label, cells in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), *([""] if self.notes else [])])

    def csv(self):
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["table", "row", "column", "n", "mean", "low", "high", "difference", "difference_low", "difference_high", "note"])
        for label, cells in self.rows:
            for column, cell in zip(self.columns, cells):
                row = [self.number, label, column]
                if isinstance(cell, Value):
                    figures = [cell.n, cell.mean, cell.low, cell.high, *(cell.against or (None,) * 3), ""]
                    row += ["" if figure is None else figure for figure in figures]
                else:
                    row += [""] * 7 + [cell.why if isinstance(cell, Absent) else cell]
                writer.writerow(row)
        return out.getvalue()


def shown(cell):
    if isinstance(cell, Value):
        return cell.shown
    return cell.why.replace("|", "/") if isinstance(cell, Absent) else cell


def whole(summary, category=""):
    """The rows of a summary that count, one for each schedule; off comes first."""
    return [row for row in summary["rows"] if row["category"] == category]


def value(summary, schedule, name):
    """The cell of schedule number `schedule` on the set `name`: off is 0, the call's own 1, then the others."""
    public = SETS[name]
    if isinstance(summary, Absent):
        return summary
    rows = whole(summary, public.category)
    # A set of one category has no rows for it apart.
    rows = rows or (whole(summary) if public.category and not any(row["category"] for row in summary["rows"]) else [])
    if schedule >= len(rows):
        return Absent("not here")
    row = rows[schedule]
    n = row["questions"] - row["failures"]
    if n == 0:
        return Absent("nothing marked")
    scores = {score["name"]: score["value"] for score in summary.get("scores", []) if score["schedule"] == row["schedule"]}
    if public.shows == "mme" and "MME perception" in scores:
        both = scores["MME cognition"], scores["MME perception"]
        return Value(f"{both[0]:.0f}/{both[1]:.0f}", n, sum(both))
    if public.shows == "rating" and "detail of 5" in scores:
        return Value(f"{scores['detail of 5']:.2f}", n, scores["detail of 5"])
    if public.shows == "chat":
        aspects = {name: mark for name, mark in scores.items() if name.endswith(" of 5") and not name.startswith("mean")}
        if aspects:
            return Value(", ".join(f"{name.split()[0]} {mark:.2f}" for name, mark in aspects.items()), n, sum(aspects.values()) / len(aspects))
    mean, low, high = (100 * row["accuracy"][part] for part in ("mean", "low", "high"))
    if public.shows == "categories" and "mean of categories, %" in scores:
        mean = scores["mean of categories, %"]
        return Value(f"{mean:.1f}", n, mean)
    text = f"{mean:.1f} ({low:.1f} to {high:.1f})"
    against = None
    if schedule and row["compared"]:
        against = tuple(100 * row["difference"][part] for part in ("mean", "low", "high"))
        text += f", {signed(against)}"
    return Value(text, n, mean, low, high, against)


def signed(interval):
    mean, low, high = interval
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def mean_of(values):
    """The mean over sets of what is there. Intervals add up as those of independent sets."""
    there = [cell for cell in values if isinstance(cell, Value)]
    if not there:
        return next((cell for cell in values if isinstance(cell, Absent) and cell.why != "not here"), Absent("not here"))
    count = len(there)
    mean = sum(cell.mean for cell in there) / count

    def half(parts):
        return math.sqrt(sum(((high - low) / 2) ** 2 for _, low, high in parts)) / count

    own = half([(cell.mean, cell.low, cell.high) for cell in there])
    text, against = f"{mean:.1f} ({mean - own:.1f} to {mean + own:.1f})", None
    if all(cell.against for cell in there):
        middle, width = sum(cell.against[0] for cell in there) / count, half([cell.against for cell in there])
        against = (middle, middle - width, middle + width)
        text += f", {signed(against)}"
    return Value(text, sum(cell.n for cell in there), mean, mean - own, mean + own, against)


def seconds(summaries, schedule):
    """Time of all answers of a schedule over sets, and its ratio to off of the same calls."""
    there = [whole(summary) for summary in summaries if not isinstance(summary, Absent)]
    there = [rows for rows in there if schedule < len(rows)]
    if not there:
        return Absent("-")
    own, off = (sum(rows[i]["seconds"] for rows in there) for i in (schedule, 0))
    n = sum(rows[schedule]["questions"] - rows[schedule]["failures"] for rows in there)
    ratio = "" if schedule == 0 or not off else f", {own / off:.2f} of off"
    return Value(f"{clock(own)}{ratio}", n, own)


def clock(time):
    minutes, rest = divmod(time, 60)
    if minutes < 1:
        return f"{time:.1f} s"
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02.0f} s"


def speed(summary, schedule):
    if isinstance(summary, Absent):
        return summary
    row = whole(summary)[schedule]
    if not row["total_ms"]:
        return Absent("-")
    a_second = 1000 / row["total_ms"]
    return Value(f"{a_second:.3g}", row["questions"] - row["failures"], a_second)


def memory(summary, schedule):
    if isinstance(summary, Absent):
        return summary
    row = whole(summary)[schedule]
    gib = row["memory_bytes"] / 2 ** 30
    return Value(f"{gib:.3g} (KV {row['kv_bytes'] / 2 ** 20:.3g} MiB)", row["questions"] - row["failures"], gib)
