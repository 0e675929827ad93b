"""The rows: one piece of work, done by this library, the unpatched one and the peers in turn."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from testmodels.shapes import TIMING_DECODERS, TIMING_TOWERS, with_output

from measure.child import Child, Program
from measure.rounds import Rounds, Work
from measure.schedule import Schedule

from . import operations, setup

PEER = "OpenVINO"
QUESTION = 32
NUMBERS = {"f16": "bf16", "bf16": "bf16", "q4_0": "int8", "q4_k": "int8", "int8": "int8", "int4": "int8"}


@dataclass(frozen=True)
class Pair:
    """A tower and a text model in the types that this library's users and OpenVINO's have them in."""

    tower: str
    text: str
    types: tuple[str, str]
    peer_types: tuple[str, str]
    torch: bool = True  # whether transformers has the memory for it

    @property
    def width(self) -> int:
        return TIMING_DECODERS[self.text].width


PAIRS = {
    "0.5B": Pair("siglip-so400m", "qwen2-0.5b", ("f16", "q4_0"), ("bf16", "int4")),
    "0.5B, int8 tower": Pair("siglip-so400m", "qwen2-0.5b", ("q4_0", "q4_k"), ("int8", "int4")),
    "7B": Pair("siglip-so400m", "qwen2-7b", ("f16", "q4_k"), ("bf16", "int4"), torch=False),
    "2,916 tokens": Pair("siglip-so400m-756", "qwen2-0.5b", ("f16", "q4_0"), ("bf16", "int4")),
}


@dataclass
class Line:
    """One party of one piece of work."""

    pair: str
    work: str
    who: str
    threads: int
    seconds: list[float]
    of_peer: list[float]  # its time over the peer's, round by round
    gflop: float
    limit: float  # giga-operations a second of the kind of numbers that it multiplies
    numbers: str
    details: dict = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.gflop / median(self.seconds)

    def as_json(self) -> dict:
        share = {"share": self.rate / self.limit} if self.limit else {}
        return self.__dict__ | {"median_seconds": median(self.seconds), "median_of_peer": median(self.of_peer),
                                "gflop_per_second": self.rate} | share


class Comparison:
    """Runs pairs and keeps their lines; `save` is called after each piece of work."""

    def __init__(self, programs: dict[str, Path], models: Callable[[Pair], tuple[Path, Path]], rounds: int, parts: list[str],
                 save: Callable[[], None], torch: bool = True):
        self.programs, self.models, self.rounds, self.parts, self.save = programs, models, rounds, parts, save
        self.torch = torch
        self.lines: list[Line] = []
        self.peaks: dict[int, list[dict]] = {}
        self.settings: dict[str, dict] = {}

    def run(self, name: str, threads: int) -> None:
        pair = PAIRS[name]
        text, tower = self.models(pair)
        schedule = Schedule(TIMING_TOWERS[pair.tower].tokens)
        ctx = 1024 * -(-(schedule.tokens + QUESTION + 64) // 1024)
        with ExitStack() as stack:
            def start(program: Program) -> Program:
                return stack.enter_context(program)

            def peer(library: str, tower: str | Path, text: str | Path) -> Program:
                command = [setup.python(), "-m", "peers.child", library, "--threads", threads, "--tower", tower, "--text", text,
                           "--projection", pair.width]
                return start(Program(command, env=setup.environment(), stderr=None))

            ours = {"stock": start(Child(self.programs["stock"], text, tower, threads, ctx)),
                    "off": start(Child(self.programs["ours"], text, tower, threads, ctx, kernels="auto"))}
            # One process for both schedules if the weights are large.
            ours["merged"] = ours["off"] if pair.text == "qwen2-7b" else start(
                Child(self.programs["ours"], text, tower, threads, ctx, kernels="auto"))
            files = (setup.exported(shape, kind, pair.width) for shape, kind in zip((pair.tower, pair.text), pair.peer_types))
            peers = {PEER: peer("openvino", *files)}
            self.settings[f"{name}, {threads}"] = peers[PEER].ask("describe")
            if pair.torch and self.torch:
                peers["transformers"] = peer("transformers", pair.tower, pair.text)
            meter = start(Program([self.programs["peaks"], threads]))
            works = {
                "encoder": ("encode off", f"encode {schedule.tower}"),
                "prompt": (f"prefill {schedule.tokens} off", f"prefill {schedule.after_tower} {schedule.decoder}"),
                "first token": ("first off off", f"first {schedule.tower} {schedule.decoder}"),
            }
            for work in self.parts:
                off, merged = works[work]
                todo = {who: Work(child, merged if who == "merged" else off) for who, child in (ours | peers).items()}
                print(f"{name}, {work}, {threads} threads", file=sys.stderr, flush=True)
                found = Rounds("cpu" if threads == 1 else "wall")
                found.run(todo | {"peaks": Work(meter, "peaks")}, self.rounds, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
                self.add(name, pair, schedule, work, threads, found)
                self.save()

    def add(self, name: str, pair: Pair, schedule: Schedule, work: str, threads: int, found: Rounds) -> None:
        peaks = found.replies.pop("peaks")
        self.peaks.setdefault(threads, []).extend(peaks)
        for who in found.replies:
            numbers = {"transformers": ("bf16", "bf16"), PEER: pair.peer_types}.get(who, pair.types)
            kind = kind_of(who, numbers[1 if work == "prompt" else 0], peaks)
            self.lines.append(Line(
                name, work, label(who, numbers, work), threads, [ms / 1e3 for ms in found.times(who)], found.ratios(who, PEER),
                gflop(pair, schedule, work, who == "merged"), median(peak[kind] for peak in peaks) if work != "first token" else 0,
                kind if work != "first token" else "", {"peaks": peaks},
            ))


def kind_of(who: str, weights: str, peaks: list[dict]) -> str:
    """The kind of numbers that weights of this type are multiplied in, by the instructions that the processor has."""
    kind = NUMBERS[weights]
    if all(peak[kind] for peak in peaks):
        return kind
    return "int16" if who in ("off", "merged") else "f32"


def label(who: str, types: tuple[str, str], work: str) -> str:
    shown = {"encoder": types[0], "prompt": types[1], "first token": " + ".join(types)}[work]
    who = {"off": "illava, merging off", "merged": "illava, `paper`", "stock": "llama.cpp, unpatched"}.get(who, who)
    return f"{who}, {shown}"


def gflop(pair: Pair, schedule: Schedule, work: str, merged: bool) -> float:
    """Billions of operations that the work needs with the tokens it is left."""
    tower, decoder = with_output(TIMING_TOWERS[pair.tower], pair.width), TIMING_DECODERS[pair.text]
    rows = schedule.after_tower if merged else schedule.tokens
    removed = schedule.removed_in_decoder if merged else 0
    total = operations.encoder(tower, merged) if work != "prompt" else 0
    if work != "encoder":
        total += operations.prompt(decoder, rows, QUESTION if work == "first token" else 0, removed)
    return total / 1e9


def table(lines: list[Line], peaks: dict[int, list[dict]]) -> str:
    """The limits, in billions of operations a second, and the lines, as Markdown."""
    out = ["| threads | f32 | bf16 | int16 | int8 | memory |", "|--:|--:|--:|--:|--:|--:|"]
    for threads, found in peaks.items():
        rates = [median(peak[key] for peak in found) for key in ("f32", "bf16", "int16", "int8")]
        memory = median(peak["gigabytes"] for peak in found)
        out.append(f"| {threads} | {' | '.join(f'{rate:.0f}' if rate else '-' for rate in rates)} | {memory:.1f} GB/s |")
    out += ["", f"| pair | work | who | threads | s | of {PEER}'s time | range | GFLOP/s | of the limit |", "|---|---|---|--:|--:|--:|--:|--:|--:|"]
    for line in lines:
        ratios = "" if line.who.startswith(PEER) else f"{min(line.of_peer):.2f} to {max(line.of_peer):.2f}"
        limit = f"{100 * line.rate / line.limit:.0f} % ({line.numbers})" if line.limit else ""
        out.append(f"| {line.pair} | {line.work} | {line.who} | {line.threads} | {median(line.seconds):.2f} | {median(line.of_peer):.2f} "
                   f"| {ratios} | {line.rate:.0f} | {limit} |")
    return "\n".join(out)
