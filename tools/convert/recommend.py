"""The merge schedule that a pair recommends, for `--merge model`."""

from dataclasses import dataclass

import gguf

from .problem import Problem


@dataclass(frozen=True)
class Recommendation:
    vit_layers: tuple[int, ...] = ()
    vit_r: tuple[int, ...] = ()
    llm_layers: tuple[int, ...] = ()
    llm_keep: tuple[float, ...] = ()
    evaluated: str | None = None

    @classmethod
    def parse(cls, vit: str | None, llm: str | None, evaluated: str | None) -> "Recommendation":
        found = cls(*_half(vit, "--merge-vit", int), *_half(llm, "--merge-llm", float), evaluated)
        if (found.vit_layers or found.llm_layers) and not evaluated:
            raise Problem("a recommended schedule needs --evaluated: a sentence that says by what it was chosen")
        if any(r < 0 for r in (*found.vit_layers, *found.vit_r, *found.llm_layers)):
            raise Problem("a recommended schedule has a number below 0")
        if any(not 0 < keep <= 1 for keep in found.llm_keep):
            raise Problem("--merge-llm: a share that is kept lies above 0 and up to 1")
        return found

    def write(self, writer: gguf.GGUFWriter) -> None:
        for key in ("vit_layers", "vit_r", "llm_layers", "llm_keep"):
            values = list(getattr(self, key))
            if values:  # an empty array would have no element type
                writer.add_array(f"illava.merge.{key}", values)
        if self.evaluated and (self.vit_layers or self.llm_layers):
            writer.add_string("illava.merge.evaluated", self.evaluated)


def _half(text: str | None, flag: str, number: type) -> tuple[tuple, tuple]:
    if text is None:
        return (), ()
    try:
        layers, amounts = text.split(":")
        found = tuple(int(n) for n in layers.split(",")), tuple(number(n) for n in amounts.split(","))
    except ValueError:
        raise Problem(f"{flag} {text}: layers, a colon and as many amounts are needed, as 5,6:92,92") from None
    if len(found[0]) != len(found[1]):
        raise Problem(f"{flag} {text}: {len(found[0])} layers but {len(found[1])} amounts")
    return found
