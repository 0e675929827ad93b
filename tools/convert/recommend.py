"""The merge schedule that a pair recommends, for `--merge model`.

`python -m convert.recommend FILE --merge-vit 4,5,6,7:25,25,25,25 --merge-llm 2:0.5 --merge-strategy bipartite
--evaluated "..."` (in tools/) gives a GGUF file another recommendation and leaves everything else as it is: its
other keys in their order, and every byte of its tensors.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf

from .problem import Problem

PREFIX = "illava.merge."
# src/schedule/strategy.rs reads the names.
STRATEGIES = ("merge", "prune", "random", "bipartite", "kmeans", "greedy", "assign", "prumerge", "downsample")


@dataclass(frozen=True)
class Recommendation:
    vit_layers: tuple[int, ...] = ()
    vit_r: tuple[int, ...] = ()
    llm_layers: tuple[int, ...] = ()
    llm_keep: tuple[float, ...] = ()
    evaluated: str | None = None
    # None is `merge`, the paper's method.
    strategy: str | None = None

    @classmethod
    def parse(
        cls, vit: str | None, llm: str | None, evaluated: str | None, strategy: str | None = None
    ) -> "Recommendation":
        found = cls(*_half(vit, "--merge-vit", int), *_half(llm, "--merge-llm", float), evaluated, strategy)
        if strategy and not (found.vit_layers or found.llm_layers):
            raise Problem("--merge-strategy belongs to a schedule: give --merge-vit or --merge-llm, too")
        if strategy and strategy not in STRATEGIES:
            raise Problem(f"--merge-strategy {strategy}: choose {', '.join(STRATEGIES)}")
        if (found.vit_layers or found.llm_layers) and not evaluated:
            raise Problem("a recommended schedule needs --evaluated: a sentence that says by what it was chosen")
        if any(r < 0 for r in (*found.vit_layers, *found.vit_r, *found.llm_layers)):
            raise Problem("a recommended schedule has a number below 0")
        if any(not 0 < keep <= 1 for keep in found.llm_keep):
            raise Problem("--merge-llm: a share that is kept lies above 0 and up to 1")
        return found

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--merge-vit", metavar="LAYERS:COUNTS", help="schedule to recommend, as 5,6,7,8:92,92,92,92")
        parser.add_argument("--merge-llm", metavar="LAYERS:SHARES", help="the same for the language model, as 8:0.7")
        parser.add_argument("--merge-strategy", metavar="NAME", help="its strategy (default: merge, the paper's)")
        parser.add_argument("--evaluated", metavar="SENTENCE", help="by what the recommended schedule was chosen")

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Recommendation":
        return cls.parse(args.merge_vit, args.merge_llm, args.evaluated, args.merge_strategy)

    def write(self, writer: gguf.GGUFWriter) -> None:
        for key in ("vit_layers", "vit_r", "llm_layers", "llm_keep"):
            values = list(getattr(self, key))
            if values:  # an empty array would have no element type
                writer.add_array(PREFIX + key, values)
        if self.strategy:
            writer.add_string(PREFIX + "strategy", self.strategy)
        if self.evaluated and (self.vit_layers or self.llm_layers):
            writer.add_string(PREFIX + "evaluated", self.evaluated)


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


def rewrite(path: Path, recommendation: Recommendation) -> None:
    """Gives the file at `path` the recommendation in place of the one it has, if any."""
    reader = gguf.GGUFReader(path)
    name = reader.fields["general.architecture"].contents()
    other = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(other, name)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key.startswith(PREFIX):
            continue
        kind, *of = field.types
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_key_value(key, field.contents(), kind, sub_type=of[-1])
        else:
            writer.add_key_value(key, field.contents(), kind)
    recommendation.write(writer)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    other.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    Recommendation.add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        recommendation = Recommendation.of(args)
        for path in args.files:
            rewrite(path, recommendation)
    except Problem as problem:
        print(f"recommend: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
