"""Lines for the person who converts: a reason to stop, and remarks on the way."""

import sys


class Problem(Exception):
    """One line: which file or value, what is wrong with it, and the remedy if it is not plain."""


def say(line: str) -> None:
    """Writes one line to stderr."""
    print(f"convert: {line}", file=sys.stderr)
