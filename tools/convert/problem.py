"""What the person who converts can change."""


class Problem(Exception):
    """One line: which file or value, what is wrong with it, and what to do where that is not plain."""
