"""The rows of benches/engine.py: who is asked what, and which ratio is made of it."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .child import Child, ChildError
from .models import Models
from .rounds import Goal, Rounds, Row, Work
from .schedule import Schedule

GROUPS = ("kernels", "encoder", "share", "decoder", "first", "repack", "repack-first", "repack-stock", "q8", "text-q4_k", "large", "memory")

OFF_IS_STOCK = Goal(0.98, 1.02)
ENCODER = Goal(low=1.8)
FIRST_TOKEN = Goal(low=2.2)


@dataclass(frozen=True)
class Settings:
    only: tuple[str, ...]
    rounds: int
    threads: tuple[int, ...]
    clock: str
    quick: bool


class Benchmark:
    """Runs the groups asked for and keeps their rows; `save` is given all rows so far after each."""

    def __init__(self, stock: Path, ours: Path, files: Models, settings: Settings, save: Callable[[list[Row]], None]):
        self.save = save
        self.stock, self.ours, self.files, self.settings = stock, ours, files, settings
        self.rows: list[Row] = []
        with Child(ours, files.small, files.tower, 1) as child:
            self.schedule = Schedule(child.ask("describe")["visual"])
        self.name = files.names

    def run(self) -> None:
        for threads in self.settings.threads:
            if self.wants("kernels"):
                self.own_kernels(threads)
            if self.wants("encoder", "share", "decoder", "first"):
                self.small_pair(threads)
            if self.wants("repack", "repack-first", "repack-stock"):
                self.repacked_tower(threads)
            if self.wants("q8"):
                self.tower_without_layout(threads)
            if self.wants("text-q4_k"):
                with ExitStack() as stack:
                    variants = self.variants(stack, self.files.small_k, self.files.tower, threads)
                    self.first_token(variants, threads, f"tower {self.name['tower']}, text {self.name['small_k']}")
            if self.wants("large"):
                self.large_text_model(threads)
        if self.wants("memory"):
            self.compute_buffers()

    def wants(self, *groups: str) -> bool:
        return any(group in self.settings.only for group in groups)

    def log(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    def add(self, what: str, threads: int, values: list[float], goal: Goal | None = None, **more) -> None:
        # Tiny models are too small to be faster; sizes hold for them too.
        if self.settings.quick and more.get("unit") != "of":
            goal = None
        self.rows.append(Row(what, threads, values, goal, **more))
        self.save(self.rows)  # an interrupted run keeps what it has

    def rounds(self, title: str, threads: int, works: dict[str, Work]) -> Rounds:
        print(f"{title}, {threads} threads", file=sys.stderr, flush=True)
        clock = self.settings.clock
        rounds = Rounds(("cpu" if threads == 1 else "wall") if clock == "auto" else clock)
        rounds.run(works, self.settings.rounds, self.log)
        return rounds

    def variants(self, stack: ExitStack, text: Path, tower: Path | None, threads: int, repack: bool = False) -> dict[str, Child]:
        """Three processes, so that none pays for what another keeps in memory."""
        return {
            "stock": stack.enter_context(Child(self.stock, text, tower, threads)),
            "off": stack.enter_context(Child(self.ours, text, tower, threads, repack=repack)),
            "merged": stack.enter_context(Child(self.ours, text, tower, threads, repack=repack)),
        }

    def small_pair(self, threads: int) -> None:
        with ExitStack() as stack:
            variants = self.variants(stack, self.files.small, self.files.tower, threads)
            if self.wants("encoder"):
                self.encoder(variants, threads)
            if self.wants("share"):
                command = f"share {self.schedule.tower} {self.settings.rounds}"
                shares = variants["merged"].ask(command)["shares"]
                what = "scoring, planning and merging, part of that encode"
                self.add(what, threads, shares, Goal(high=0.03), unit="share")
            if self.wants("decoder"):
                self.decoder(variants, threads)
            if self.wants("first"):
                self.first_token(variants, threads, f"tower {self.name['tower']}, text {self.name['small']}")

    def encode(self, works: dict[str, Child], title: str, threads: int) -> Rounds:
        """Works whose name begins with "merged" merge; what they leave is checked."""
        merges = {name: name.startswith("merged") for name in works}
        r = self.rounds(
            title,
            threads,
            {name: Work(child, f"encode {self.schedule.tower if merges[name] else 'off'}") for name, child in works.items()},
        )
        for name, replies in r.replies.items():
            left = self.schedule.after_tower if merges[name] else self.schedule.tokens
            if any(reply["rows"] != left for reply in replies):
                raise ChildError(f"the encode `{name}` did not leave {left} tokens")
        return r

    def encoder(self, variants: dict[str, Child], threads: int) -> None:
        what = f"encoder {self.name['tower']}"
        r = self.encode(variants, "encoder", threads)
        times = {"times": r.medians()}
        left = f"{self.schedule.tokens} → {self.schedule.after_tower}"
        self.add(f"{what}, {left}: stock / merged", threads, r.ratios("stock", "merged"), ENCODER, details=times)
        self.add(f"{what}: off / stock", threads, r.ratios("off", "stock"), OFF_IS_STOCK, details=times)

    def first(self, works: dict[str, Child], title: str, threads: int) -> tuple[Rounds, dict]:
        """Encode, prefill, 32 text tokens and their logits; as in encode(), the name says who merges."""
        merged = f"first {self.schedule.tower} {self.schedule.decoder}"
        r = self.rounds(
            f"first token, {title}",
            threads,
            {name: Work(child, merged if name.startswith("merged") else "first off off") for name, child in works.items()},
        )
        parts = {
            name: {"first": value["ms"], "encode": median(reply["encode_ms"] for reply in r.replies[name])}
            for name, value in r.medians().items()
        }
        return r, {"times": r.medians(), "parts_ms": parts}

    def first_token(self, variants: dict[str, Child], threads: int, pair: str) -> None:
        r, details = self.first(variants, pair, threads)
        what = f"time to first token, {pair}"
        self.add(f"{what}: stock / merged", threads, r.ratios("stock", "merged"), FIRST_TOKEN, details=details)
        self.add(f"{what}: off / stock", threads, r.ratios("off", "stock"), OFF_IS_STOCK, details=details)

    def own_kernels(self, threads: int) -> None:
        """As users run it: this library's kernels for many rows, merging off and on, against the unpatched library."""
        towers = [(self.files.tower, self.name["tower"]), (self.files.tower_q8, self.name["tower_q8"]), (self.files.tower_q4, self.name["tower_q4"])]
        texts = [(self.files.small, self.name["small"]), (self.files.small_k, self.name["small_k"])]
        for tower, tower_name in towers:
            for text, text_name in texts if tower == self.files.tower else texts[:1]:
                with ExitStack() as stack:
                    works = {
                        "stock": stack.enter_context(Child(self.stock, text, tower, threads)),
                        "off": stack.enter_context(Child(self.ours, text, tower, threads, kernels="auto")),
                        "merged": stack.enter_context(Child(self.ours, text, tower, threads, kernels="auto")),
                    }
                    if text == self.files.small:
                        r = self.encode(works, f"own kernels, {tower_name}", threads)
                        times = {"times": r.medians()}
                        what = f"own kernels, encoder {tower_name}"
                        self.add(f"{what}: stock / off", threads, r.ratios("stock", "off"), details=times)
                        self.add(f"{what}: stock / merged", threads, r.ratios("stock", "merged"), details=times)
                    r, details = self.first(works, f"own kernels, {tower_name}, {text_name}", threads)
                    what = f"own kernels, time to first token, tower {tower_name}, text {text_name}"
                    self.add(f"{what}: stock / off", threads, r.ratios("stock", "off"), details=details)
                    self.add(f"{what}: stock / merged", threads, r.ratios("stock", "merged"), Goal(low=5), details=details)

    def decoder(self, variants: dict[str, Child], threads: int) -> None:
        text = self.name["small"]
        off = f"prefill {self.schedule.tokens} off"
        merged = f"prefill {self.schedule.after_tower} {self.schedule.decoder}"
        commands = {"stock": off, "off": off, "merged": merged}
        r = self.rounds("prefill", threads, {name: Work(variants[name], command) for name, command in commands.items()})
        times = {"times": r.medians()}
        self.add(f"image prefill {text}: off / stock", threads, r.ratios("off", "stock"), OFF_IS_STOCK, details=times)
        what = f"image prefill {text}, {self.schedule.path}: stock / merged"
        self.add(what, threads, r.ratios("stock", "merged"), details=times)

        # Every process still has its picture in the cache.
        steps = 8 if self.settings.quick else 24
        r = self.rounds("generation", threads, {name: Work(child, f"generate {steps}") for name, child in variants.items()})
        times = {"times": r.medians()}
        self.add(f"generation {text}, step: off / stock", threads, r.ratios("off", "stock"), OFF_IS_STOCK, details=times)
        self.add(f"generation {text}, step: stock / merged", threads, r.ratios("stock", "merged"), details=times)

    def repacked_tower(self, threads: int) -> None:
        """A tower in Q4_0 with --mmproj-repack, off and merging, beside what the unpatched library has to offer."""
        tower, f16, text = self.name["tower_q4"], self.name["tower"], self.name["small"]
        with Child(self.ours, self.files.small, self.files.tower_q4, 1, repack=True) as child:
            if child.ask("describe")["repacked"] == 0:
                self.log(f"no row for a repacked tower: this processor has no faster layout for {tower}")
                return
        with ExitStack() as stack:
            works = self.variants(stack, self.files.small, self.files.tower_q4, threads, repack=True)
            works["stock F16"] = stack.enter_context(Child(self.stock, self.files.small, self.files.tower, threads))
            if self.wants("repack"):
                r = self.encode(works, "repacked tower", threads)
                times = {"times": r.medians()}
                what = f"encoder {tower}"
                self.add(f"{what}, stock / {f16}, stock", threads, r.ratios("stock", "stock F16"), details=times)
                self.add(f"{what}: stock / repacked, off", threads, r.ratios("stock", "off"), details=times)
                self.add(f"{what}, repacked: off / merged", threads, r.ratios("off", "merged"), ENCODER, details=times)
            what = f"time to first token, text {text}, tower {tower}"
            if self.wants("repack-first"):
                r, details = self.first({name: works[name] for name in ("off", "merged")}, f"tower {tower} repacked", threads)
                self.add(f"{what}, repacked: off / merged", threads, r.ratios("off", "merged"), FIRST_TOKEN, details=details)
            if self.wants("repack-stock"):
                of_stock = {name: works[name] for name in ("stock", "merged", "stock F16")}
                r, details = self.first(of_stock, f"stock and tower {tower} repacked", threads)
                self.add(f"{what}: stock / repacked, merged", threads, r.ratios("stock", "merged"), FIRST_TOKEN, details=details)
                what = f"time to first token, text {text}: stock with tower {f16} / repacked {tower}, merged"
                self.add(what, threads, r.ratios("stock F16", "merged"), FIRST_TOKEN, details=details)

    def tower_without_layout(self, threads: int) -> None:
        """Q8_0, for which x86 has no layout to repack into."""
        pair = f"tower {self.name['tower_q8']}, text {self.name['small']}"
        with ExitStack() as stack:
            works = self.variants(stack, self.files.small, self.files.tower_q8, threads)
            works["stock F16"] = stack.enter_context(Child(self.stock, self.files.small, self.files.tower, threads))
            r = self.encode(works, "tower in Q8_0", threads)
            times = {"times": r.medians()}
            self.add("encoder in Q8_0 / in F16, stock", threads, r.ratios("stock", "stock F16"), details=times)
            self.add("encoder in Q8_0: stock / merged", threads, r.ratios("stock", "merged"), details=times)
            self.first_token({name: works[name] for name in ("stock", "off", "merged")}, threads, pair)

    def large_text_model(self, threads: int) -> None:
        # Two processes, not three: each holds 4 GB of repacked weights.
        off, merged = f"prefill {self.schedule.tokens} off", f"prefill {self.schedule.after_tower} {self.schedule.decoder}"
        text = self.name["large"]
        with (
            Child(self.stock, self.files.large, None, threads) as stock,
            Child(self.ours, self.files.large, None, threads) as ours,
        ):
            r = self.rounds(f"prefill {text}", threads, {"stock": Work(stock, off), "merged": Work(ours, merged)})
            with_merging = ours.ask("memory")
            what = f"image prefill {text}, {self.schedule.path}: stock / merged"
            self.add(what, threads, r.ratios("stock", "merged"), Goal(low=2.6), details={"times": r.medians()})
            if self.wants("memory") and threads == self.settings.threads[-1]:
                ours.ask(off)
                without = ours.ask("memory")
                self.add(
                    f"visual KV bytes {text}: merged / off",
                    threads,
                    [kv_bytes(with_merging) / kv_bytes(without)],
                    Goal(high=0.37),
                    unit="of",
                    details={"merged": with_merging, "off": without, "rows": self.schedule.path},
                )

    def compute_buffers(self) -> None:
        print("compute buffers", file=sys.stderr, flush=True)
        # One schedule and one -c for both, so that nothing but the picture differs.
        schedule, ctx = f"2:{4 if self.settings.quick else 172}", 4096
        threads, asked = self.settings.threads[-1], {}
        for rows in (576, 2880):
            with Child(self.ours, self.files.small, None, threads, ctx) as ours:
                ours.ask(f"prefill {rows} {schedule}")
                asked[rows] = ours.ask("memory")
        self.add(
            f"compute buffers {self.name['small']}, -c {ctx}, n_ubatch 512: image of 2880 / of 576 tokens",
            threads,
            [asked[2880]["compute_bytes"] / asked[576]["compute_bytes"]],
            Goal(high=1.0),
            unit="of",
            details={str(rows): reply for rows, reply in asked.items()},
        )


def kv_bytes(memory: dict) -> float:
    """Bytes of the cells in use, over all segments."""
    return sum(s["bytes"] * s["used"] / s["cells"] for s in memory["segments"])
