"""Rows as a Markdown table."""

from .rounds import Row


def _value(row: Row, value: float) -> str:
    if row.unit == "share":
        return f"{100 * value:.2f} %"
    return f"{value:.3f}" if row.unit == "of" or value < 1.2 else f"{value:.2f}x"


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    if row.unit == "share":
        return f"≤ {100 * row.goal.high:g} %"
    return str(row.goal)


def _verdict(row: Row) -> str:
    return {None: "", True: "met", False: "**missed**"}[row.met]


def markdown(rows: list[Row]) -> str:
    lines = [
        "| what | threads | median | range | goal | |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        span = f"{_value(row, min(row.values))} to {_value(row, max(row.values))}" if len(row.values) > 1 else ""
        lines.append(f"| {row.what} | {row.threads} | {_value(row, row.median)} | {span} | {_goal(row)} | {_verdict(row)} |")
    return "\n".join(lines)
