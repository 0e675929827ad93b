#!/usr/bin/env python3
"""The whole forward pass with merging, in float64, from a pair of GGUF files.

    reference.py text.gguf mmproj.gguf [--class-token last|first]

Tower, projector and decoder are written from the definition of the method (see
reference_model/) and share no code with the engine. Run as a program it
encodes a seeded picture, merges in both halves and prints what each step did.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import torch

from reference_model.arithmetic import EXACT
from reference_model.decoder import Decoder, Prompt, grid_positions, sequential_positions
from reference_model.encoder import Encoded, Encoder
from reference_model.merge import Step
from reference_model.strategies import Rule
from reference_model.weights import Weights


@dataclass(frozen=True)
class Schedule:
    """Tokens removed per layer of each half, the decoder's score and Qwen2-VL's grid."""

    encoder: dict[int, int] = field(default_factory=dict)
    decoder: dict[int, int] = field(default_factory=dict)
    score: str = "image"
    grid: str = "faithful"
    rule: Rule = Rule()


@dataclass
class Result:
    encoded: Encoded
    logits: torch.Tensor
    steps: list[Step]


class Reference:
    """A pair of files. `rounding` as in `arithmetic`."""

    def __init__(self, text: Path, mmproj: Path, rounding: str = EXACT, class_token: str = "last"):
        self.encoder = Encoder(Weights(mmproj), rounding, class_token)
        self.decoder = Decoder(Weights(text), rounding)

    def prompt(
        self, encoded: Encoded, before: list[int], after: list[int], generated: list[int] | None = None
    ) -> Prompt:
        generated = generated or []
        tail = len(after) + len(generated)
        if self.decoder.sections is None:
            positions = sequential_positions(len(before), len(encoded.embeddings), tail)
        else:
            positions = grid_positions(
                len(before), encoded.cells, encoded.rows, encoded.columns, tail
            )
        return Prompt(before, encoded.embeddings, after, positions, generated, encoded.sizes)

    def run(self, pixels: torch.Tensor, before: list[int], after: list[int], schedule: Schedule) -> Result:
        """`pixels` [ny, nx, 3], preprocessed; the span stands between the two token lists."""
        encoded = self.encoder.encode(pixels, schedule.encoder, schedule.grid, rule=schedule.rule)
        logits, steps = self.decoder.prefill(
            self.prompt(encoded, before, after), schedule.decoder, schedule.score, schedule.rule
        )
        return Result(encoded, logits, encoded.steps + steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("mmproj", type=Path)
    parser.add_argument("--class-token", choices=["last", "first"], default="last")
    args = parser.parse_args()
    model = Reference(args.text, args.mmproj, class_token=args.class_token)
    side = 10 * model.encoder.patch
    pixels = torch.rand(side, side, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    schedule = Schedule(encoder={1: 12, 2: 12}, decoder={2: 4})
    result = model.run(pixels, [1, 2, 3], [4, 5], schedule)
    for step in result.steps:
        print(f"{step.half} layer {step.layer}: {step.n_in} -> {step.n_out}, into {step.into}")
    print(f"logits: largest at token {int(result.logits.argmax())}")


if __name__ == "__main__":
    main()
