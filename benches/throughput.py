#!/usr/bin/env python3
"""Writes docs/throughput.md: captions a day with and without merging, from the measured files and named assumptions.

    benches/throughput.py            writes the page
    benches/throughput.py --print    shows it

Every figure of the page is computed here.  benches/test_throughput.py holds the page to this program and the program to
values worked out by hand.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
sys.path.insert(0, str(ROOT / "benches"))

from testmodels.shapes import TIMING_DECODERS, TIMING_TOWERS, with_output  # noqa: E402

from measure.schedule import Schedule  # noqa: E402
from peers import operations  # noqa: E402

PAGE = ROOT / "docs/throughput.md"
PEERS = "peers-2026-11-29-threads-2.json"
ENGINE = "engine-2026-11-22-two-threads-15-rounds.json"
STEPS = "engine-2026-11-23-two-threads-40-rounds.json"
DAY = 86_400
# A caption: words of the question, tokens of the answer.
QUESTION, ANSWER = 32, 32
TOWER, SMALL, LARGE = "siglip-so400m", "qwen2-0.5b", "qwen2-7b"
# Bits that a weight of Q4_0 takes.
Q4_0 = 4.5

# Assumptions: nothing of these was measured.
SERVER_CORES, SERVER_SHARE = 16, 0.8
LAPTOP_CORES, LAPTOP_SHARE, LAPTOP_HOURS = 8, 0.5, 10
GPU_FLOPS, GPU_BYTES = 989e12, 3.35e12
GPU_PRODUCTS, GPU_READING, GPU_BATCH = 0.35, 0.6, 32
SERVERS, LAPTOPS = 10, 100


@dataclass(frozen=True)
class Cost:
    """Seconds of one picture: encoder and prompt up to the first token, and each further token."""
    first: float
    step: float

    @property
    def picture(self):
        return self.first + (ANSWER - 1) * self.step


def run(name):
    return json.loads((ROOT / "benches/runs" / name).read_text())


def measured(who, work):
    """Median seconds and billions of operations of a row of the peers' file; two threads, the 0.5B."""
    row = next(row for row in run(PEERS)["rows"] if row["work"] == work and row["who"].startswith(who))
    return median(row["seconds"]), row["gflop"]


def milliseconds(file, what, who):
    row = next(row for row in run(file)["rows"] if row["what"].startswith(what))
    return row["details"]["times"][who]["ms"]


def bandwidth():
    """Bytes a second that two threads read, the median of the file's measurements."""
    peaks = [peak["gigabytes"] for row in run(PEERS)["rows"] for peak in row["details"]["peaks"]]
    return median(peaks) * 1e9


OFF, PAPER = "illava, merging off", "illava, `paper`"


def operations_of(text, merged):
    """Operations of a picture's encoder, and of a prompt with it and the question."""
    tower, decoder, schedule = with_output(TIMING_TOWERS[TOWER], TIMING_DECODERS[text].width), TIMING_DECODERS[text], Schedule(729)
    rows = schedule.after_tower if merged else schedule.tokens
    removed = schedule.removed_in_decoder if merged else 0
    return operations.encoder(tower, merged), operations.prompt(decoder, rows, QUESTION, removed)


def small(merged):
    """The 0.5B on the measured machine: both figures measured."""
    first, _ = measured(PAPER if merged else OFF, "first token")
    return Cost(first, milliseconds(STEPS, "generation", "merged" if merged else "off") / 1e3)


def rates(merged):
    """Operations a second of encoder and prompt, as measured with the 0.5B."""
    return tuple(gflop * 1e9 / seconds for seconds, gflop in (measured(PAPER if merged else OFF, work) for work in ("encoder", "prompt")))


def large(merged):
    """The 7B on the measured machine: its operations at the measured rates, its weights at the measured bandwidth."""
    encode, prompt = (work / rate for work, rate in zip(operations_of(LARGE, merged), rates(merged)))
    return Cost(encode + prompt, operations.weights(TIMING_DECODERS[LARGE]) * Q4_0 / 8 / bandwidth())


def laptop(merged):
    """The 0.5B with the kernels of unpatched llama.cpp on the measured machine, two threads."""
    who = "merged" if merged else "stock"
    return Cost(milliseconds(ENGINE, "time to first token", who) / 1e3, milliseconds(STEPS, "generation", who) / 1e3)


def gpu(text, merged):
    """A picture of a full batch: products at a share of the peak, the weights read once for the whole batch."""
    first = sum(operations_of(text, merged)) / (GPU_FLOPS * GPU_PRODUCTS)
    return Cost(first, operations.weights(TIMING_DECODERS[text]) * 2 / GPU_BATCH / (GPU_BYTES * GPU_READING))


def on_server(cost):
    """Captions a day of one server: as many processes of two threads as it has pairs of cores."""
    return DAY / cost.picture * SERVER_CORES / 2 * SERVER_SHARE


def on_laptop(cost):
    return LAPTOP_HOURS * 3600 / cost.picture * LAPTOP_CORES / 2 * LAPTOP_SHARE


def rounded(count):
    """A count with two digits, since the assumptions are no better."""
    digits = 10 ** max(0, len(str(int(count))) - 2)
    return f"{round(count / digits) * digits:,}"


def rows():
    """What stands in the table: the machines, the model, captions a day off and merging."""
    found = []
    for machines, model, a_day in (
        ("the measured machine: 2 cores", "0.5B", lambda merged: DAY / small(merged).picture),
        ("the measured machine: 2 cores", "7B", lambda merged: DAY / large(merged).picture),
        (f"{SERVERS} servers of {SERVER_CORES} cores", "0.5B", lambda merged: SERVERS * on_server(small(merged))),
        (f"{SERVERS} servers of {SERVER_CORES} cores", "7B", lambda merged: SERVERS * on_server(large(merged))),
        (f"{LAPTOPS} laptops of {LAPTOP_CORES} cores, {LAPTOP_HOURS} hours", "0.5B", lambda merged: LAPTOPS * on_laptop(laptop(merged))),
        ("1 GPU", "0.5B", lambda merged: DAY / gpu(SMALL, merged).picture),
        ("1 GPU", "7B", lambda merged: DAY / gpu(LARGE, merged).picture),
    ):
        found.append((machines, model, a_day(False), a_day(True)))
    return found


def page():
    def step(cost):
        return f"{cost.first:.3f} + {ANSWER - 1} x {cost.step:.4f} = {cost.picture:.3f} s"

    (encode_off, prompt_off), (encode, prompt) = (tuple(rate / 1e9 for rate in rates(merged)) for merged in (False, True))
    work = {(text, merged): tuple(value / 1e9 for value in operations_of(text, merged)) for text in (SMALL, LARGE) for merged in (False, True)}
    weights = operations.weights(TIMING_DECODERS[LARGE])
    table = [f"| {machines} | {model} | {rounded(off)} | {rounded(merged)} | {merged / off:.2f}x |" for machines, model, off, merged in rows()]
    server = DAY / small(True).picture * SERVER_CORES / 2 * SERVER_SHARE
    laptops = LAPTOP_HOURS * 3600 / laptop(True).picture * LAPTOP_CORES / 2 * LAPTOP_SHARE
    card = gpu(LARGE, True)
    return f"""# Throughput at scale, on paper

How many pictures a GPU, ten servers or a hundred laptops would caption in a day, with merging off and with the paper's schedule. Only the first row was measured. The others are arithmetic on the measured figures and on assumptions that have names below. `benches/throughput.py` writes this page; change an assumption there and run it.

One caption: a picture of one view (729 tokens; 361 after the encoder and 253 in the decoder with `paper`), a question of {QUESTION} tokens, an answer of {ANSWER}. SigLIP-so400m in F16, Qwen2-0.5B or 7B in Q4_0 (on the GPU in F16). Reading and resizing files is left out.

| machines | text model | off, a day | merging, a day | |
|---|---|--:|--:|--:|
{chr(10).join(table)}

## Measured

Two threads of an AMD EPYC (Zen 5, AVX-512), random weights in the true shapes:

| | off | merging | file in benches/runs |
|---|--:|--:|---|
| 0.5B, pixels to the first token, s | {small(False).first:.3f} | {small(True).first:.3f} | {PEERS} |
| 0.5B, a further token, ms | {small(False).step * 1e3:.1f} | {small(True).step * 1e3:.1f} | {STEPS} |
| encoder, GFLOP/s | {encode_off:.0f} | {encode:.0f} | {PEERS} |
| prompt, GFLOP/s | {prompt_off:.0f} | {prompt:.0f} | {PEERS} |
| bytes read, GB/s | {bandwidth() / 1e9:.1f} | | {PEERS} |
| 0.5B without kernels for AVX-512: to the first token, s | {laptop(False).first:.3f} | {laptop(True).first:.3f} | {ENGINE} |
| the same: a further token, ms | {laptop(False).step * 1e3:.1f} | {laptop(True).step * 1e3:.1f} | {STEPS} |

Off in the last two rows is unpatched llama.cpp.

## Operations

Products and attention of the shapes, in GFLOP (`benches/peers/operations.py`):

| | encoder, off | encoder, merging | prompt, off | prompt, merging |
|---|--:|--:|--:|--:|
| 0.5B | {work[SMALL, False][0]:.0f} | {work[SMALL, True][0]:.0f} | {work[SMALL, False][1]:.0f} | {work[SMALL, True][1]:.0f} |
| 7B | {work[LARGE, False][0]:.0f} | {work[LARGE, True][0]:.0f} | {work[LARGE, False][1]:.0f} | {work[LARGE, True][1]:.0f} |

## Arithmetic

A picture takes the time to the first token and {ANSWER - 1} further tokens; a day has {DAY:,} seconds.

- **0.5B, measured machine.** Off {step(small(False))}. Merging {step(small(True))}.
- **7B, measured machine.** Its operations at the rates of the 0.5B: off {work[LARGE, False][0]:.0f} / {encode_off:.0f} + {work[LARGE, False][1]:.0f} / {prompt_off:.0f} = {large(False).first:.1f} s, merging {work[LARGE, True][0]:.0f} / {encode:.0f} + {work[LARGE, True][1]:.0f} / {prompt:.0f} = {large(True).first:.1f} s. A further token reads {weights / 1e9:.2f} billion weights of {Q4_0} bits: {weights * Q4_0 / 8e9:.2f} GB at {bandwidth() / 1e9:.1f} GB/s are {large(True).step * 1e3:.0f} ms. Together {large(False).picture:.1f} s and {large(True).picture:.1f} s.
- **A server.** {SERVER_CORES} cores run {SERVER_CORES // 2} processes of two threads: {DAY:,} / {small(True).picture:.3f} x {SERVER_CORES // 2} x {SERVER_SHARE} = {rounded(server)} captions of the 0.5B, merging.
- **A laptop.** {LAPTOP_HOURS} hours, {LAPTOP_CORES // 2} processes: {LAPTOP_HOURS * 3600:,} / {laptop(True).picture:.3f} x {LAPTOP_CORES // 2} x {LAPTOP_SHARE} = {rounded(laptops)} captions, merging.
- **The GPU.** 7B, merging: {sum(work[LARGE, True]):.0f} GFLOP at {GPU_PRODUCTS:.0%} of {GPU_FLOPS / 1e12:.0f} TFLOP/s are {card.first * 1e3:.1f} ms. A further token of {GPU_BATCH} sequences reads the weights once: {weights * 2 / 1e9:.1f} GB / {GPU_BATCH} at {GPU_READING:.0%} of {GPU_BYTES / 1e12:.2f} TB/s are {card.step * 1e3:.2f} ms each. Together {card.picture * 1e3:.1f} ms.

## Assumptions

| assumption | value | why |
|---|---|---|
| cores of a server | {SERVER_CORES}, of the measured kind | none was at hand |
| share of perfect scaling | {SERVER_SHARE} | processes share the memory's bandwidth, and the clock falls |
| cores of a laptop | {LAPTOP_CORES}, without AVX-512 | measured with ggml's kernels, before there were ours for AVX2 and AVX-VNNI |
| speed of a laptop's core | {LAPTOP_SHARE} of the measured one | heat, batteries, half the vector width |
| hours of a laptop | {LAPTOP_HOURS} a day | the night |
| peak of the GPU | {GPU_FLOPS / 1e12:.0f} TFLOP/s in bf16, {GPU_BYTES / 1e12:.2f} TB/s | the data sheet of an H100 SXM |
| share of its peak | {GPU_PRODUCTS} in products, {GPU_READING} in reading | **no GPU was measured**: [gpu.md](gpu.md) |
| sequences at once on it | {GPU_BATCH} | weights are read once for all of them |
| host | keeps up | decoding JPEG and the merging decoder's way over the host cost nothing here |

Longer answers bring the two columns together: a further token costs nearly the same with merging. More tokens a picture drive them apart: [benches/README.md](../benches/README.md#growth) has the time against the tokens kept.

Many requests on many machines are `illava batch` on shares of a folder, or `deploy/ray_data.py` ([captions.md](captions.md), [../deploy/README.md](../deploy/README.md)).
"""


def main():
    if "--print" in sys.argv[1:]:
        print(page(), end="")
    else:
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
