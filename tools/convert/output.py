"""A tensor of the file to come: the source of its rows, and what may be done to its type."""

from dataclasses import dataclass
from typing import Callable, Iterable

import numpy as np

from .checkpoint import Source
from .problem import Problem

MATRIX, TABLE, KERNEL, VECTOR = "matrix", "table", "kernel", "vector"


@dataclass(frozen=True)
class Output:
    """`rows(start, stop)` gives rows of the first axis in f32; `align` is how many belong together.

    Only a `MATRIX`, or a `TABLE` of token vectors, may be quantised; a `KERNEL` is F32 or F16.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    rows: Callable[[int, int], np.ndarray]
    align: int = 1


class Tensors:
    """The tensors of one half under their canonical names; knows at the end which were not asked for."""

    def __init__(self, where: str, sources: dict[str, Source]):
        self.where, self.sources, self.taken = where, sources, set()

    def get(self, name: str, shape: tuple[int, ...]) -> Source:
        source = self.sources.get(name)
        if source is None:
            raise Problem(f"{self.where} has no tensor {name}, which its configuration asks for")
        if tuple(source.shape) != shape:
            raise Problem(f"{self.where}: tensor {source.name} has the shape {list(source.shape)}, "
                          f"its configuration says {list(shape)}")
        self.taken.add(name)
        return source

    def plain(self, name: str, source: str, shape: tuple[int, ...], kind: str | None = None) -> Output:
        """The stored values as they are."""
        found = self.get(source, shape)
        kind = kind or (VECTOR if len(shape) == 1 else MATRIX)
        return Output(name, shape, kind, found.rows)

    def finish(self, ignored: Iterable[str] = ()) -> None:
        """Refuses a checkpoint with weights that would be left out silently."""
        rest = sorted(set(self.sources) - self.taken - set(ignored))
        if rest:
            first = self.sources[rest[0]].name
            raise Problem(f"{self.where} has {len(rest)} tensors that its architecture does not, the first is {first}")
