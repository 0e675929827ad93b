"""The `paper` preset, in the words bench-pair takes: layer:r,layer:r."""

from dataclasses import dataclass

# For a tower of 729 tokens and a decoder that is given 361.
PAPER_TOWER = ((3, 92), (4, 92), (5, 92), (6, 92))
PAPER_DECODER = (2, 108)


@dataclass(frozen=True)
class Schedule:
    """The tokens that the preset removes from a tower of `tokens`."""

    tokens: int

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Layers of the tower, and the tokens that each removes."""
        return [(layer, round(r * self.tokens / 729)) for layer, r in PAPER_TOWER]

    @property
    def tower(self) -> str:
        return ",".join(f"{layer}:{r}" for layer, r in self.steps)

    @property
    def after_tower(self) -> int:
        return self.tokens - sum(r for _, r in self.steps)

    @property
    def decoder(self) -> str:
        return f"{PAPER_DECODER[0]}:{self.removed_in_decoder}"

    @property
    def removed_in_decoder(self) -> int:
        return round(PAPER_DECODER[1] * self.after_tower / 361)

    @property
    def path(self) -> str:
        """Visual tokens from the tower's first layer to the decoder's last."""
        return f"{self.tokens} → {self.after_tower} → {self.after_tower - self.removed_in_decoder}"
