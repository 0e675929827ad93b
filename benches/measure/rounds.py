"""Alternated measurements and what is concluded from them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from .child import Program


@dataclass(frozen=True)
class Goal:
    """A range for a figure; None leaves that side open."""

    low: float | None = None
    high: float | None = None

    def met(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is None:
            return f"≤ {self.high:.4g}"
        if self.high is None:
            return f"≥ {self.low:.4g}"
        return f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Row:
    """One figure: a value for each pair of runs."""

    what: str
    threads: int
    values: list[float]
    goal: Goal | None = None
    unit: str = "x"  # "x": a ratio of two times; "share": a part of one time; "of": a ratio of two sizes
    note: str = ""
    details: dict = field(default_factory=dict)

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.goal.met(self.median)

    def as_json(self) -> dict:
        return {
            "what": self.what,
            "threads": self.threads,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": self.values,
            "goal": None if self.goal is None else {"low": self.goal.low, "high": self.goal.high},
            "met": self.met,
            "note": self.note,
            "details": self.details,
        }


@dataclass(frozen=True)
class Work:
    """One run of a round: who is asked, and what."""

    child: Program
    command: str


class Rounds:
    """Runs of several works, taken in turn: A B C, C B A, A B C ...

    The order turns round because whoever comes second is a little slower with several threads (1 to 3 % seen).
    """

    def __init__(self, clock: str):
        self._field = "ms" if clock == "wall" else "cpu_ms"
        self.replies: dict[str, list[dict]] = {}

    def run(self, works: dict[str, Work], rounds: int, log: Callable[[str], None]) -> None:
        for turn in range(-1, rounds):  # the first is the warm-up
            times = []
            for name, work in list(works.items())[:: 1 if turn % 2 == 0 else -1]:
                reply = work.child.ask(work.command)
                times.append(f"{name} {reply[self._field]:.1f}")
                if turn >= 0:
                    self.replies.setdefault(name, []).append(reply)
            log(f"{'warm-up' if turn < 0 else f'{turn + 1}/{rounds}'}: {', '.join(times)} ms")

    def times(self, name: str) -> list[float]:
        return [reply[self._field] for reply in self.replies[name]]

    def ratios(self, over: str, under: str) -> list[float]:
        """Time of `over` divided by that of `under`, round by round."""
        return [a / b for a, b in zip(self.times(over), self.times(under), strict=True)]

    def medians(self) -> dict[str, dict[str, float]]:
        """Absolute times, which hold for the machine they were taken on."""
        return {
            name: {key: median(reply[key] for reply in replies) for key in ("ms", "cpu_ms")}
            for name, replies in self.replies.items()
        }
