"""The shapes a pair can be trained in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Pictures are `grid` x `grid` patches; `gated` are the tower layers that merge tokens, counted
    from 0. Attention received has to find the things there."""
    name: str
    grid: int
    tower_width: int
    tower_layers: int
    tower_heads: int
    tower_mlp: int      # llama.cpp tells up from down by shape: must differ from the width
    width: int
    layers: int
    heads: int
    mlp: int
    gated: tuple
    smallest: float     # half width of the smallest thing, in units of scenes.UNIT
    frames: int         # of a video, more than a pair has
    patch: int = 8
    theta: float = 1e6
    eps: float = 1e-6

    @property
    def side(self):
        return self.grid * self.patch

    @property
    def tokens(self):
        return self.grid ** 2

    @property
    def pooled(self):
        """Cells of a video frame's side after pooling."""
        return -(-self.grid // 2)


GEOMETRIES = {g.name: g for g in (
    # The paper's: 216 x 216 pixels, 729 tokens, 19 million parameters, 39 MB in F16.
    Geometry("paper", 27, 256, 14, 4, 1024, 256, 10, 4, 704, (3, 4, 5, 6), 4.0, 8),
    # A size that two processor cores can move. Its third layer (2) does not pass: areas of .5 to .6
    # were seen.
    Geometry("small", 14, 96, 8, 3, 256, 128, 5, 4, 320, (3, 4, 5), 6.0, 4),
    # For tests.
    Geometry("tiny", 14, 32, 3, 2, 48, 32, 2, 2, 48, (1,), 7.0, 3),
)}
