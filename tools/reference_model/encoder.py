"""Image encoders and projectors with merging, float64.

Scores of a layer: s_i = (1 / (H N)) sum_h sum_j A[h, j, i]. j runs over every query row of the layer, and N
is the number of those rows. With a class token its row is one of them, and N counts it. Its column is not
scored and the token is never merged. The merge acts on the sum of the layer's input and its attention
output, before the MLP.

Qwen2-VL keeps patches in 2x2 groups, four consecutive rows each. `faithful`
merges whole groups (a group's score is the mean of its patches' scores, patch
k of the groups is averaged with patch k); `reference` merges single patches
and lets four consecutive survivors form a group.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Callable

import torch

from .arithmetic import EXACT, Arithmetic, frequencies, heads, layer_norm, rotate
from .merge import Step, folded, merge
from .strategies import Inputs, Rule, reduce
from .weights import Weights

GROUP = 4


@dataclass
class Encoded:
    """Embeddings [n, width]; `cells` are the output cells they stand for, ascending.

    The grid is `rows` x `columns` of output cells before any merging.
    """

    embeddings: torch.Tensor
    cells: list[int]
    rows: int
    columns: int
    steps: list[Step]
    # Original tokens that each embedding stands for, by rules that count them.
    sizes: torch.Tensor | None = None
    # Output cells that each embedding stands for, by any rule; None if survivors take other cells.
    counts: torch.Tensor | None = None


class State:
    """The patches on their way: who is alive, at which place, how many each stands for."""

    def __init__(self, alive: list[int], angles: torch.Tensor | None, unit: int, rule: Rule):
        self.alive, self.angles, self.unit, self.rule = alive, angles, unit, rule
        self.sizes = torch.ones(len(alive), dtype=torch.float64)
        self.steps: list[Step] = []

    def row_sizes(self, class_at: int | None) -> torch.Tensor | None:
        """Sizes of the rows if attention counts them: all patches of a unit alike, the class token one."""
        if not self.rule.sizes or not self.steps:
            return None
        sizes = self.sizes.repeat_interleave(self.unit)
        if class_at is None:
            return sizes
        return torch.cat([sizes[:class_at], torch.ones(1, dtype=sizes.dtype), sizes[class_at:]])


class Encoder:
    """A tower and its projector.

    `class_token` is the class token's place: "first" as in the published models, or "last" as in the
    unpatched graph of llama.cpp. There row i of the position table goes to patch i (not i + 1). The rows
    that go on to the projector are all but row 0: the first patch is dropped and the class token is taken
    for a patch.
    """

    def __init__(self, weights: Weights, rounding: str = EXACT, class_token: str = "last"):
        self.w = weights
        self.math = Arithmetic(rounding)
        self.class_token = class_token
        f = weights.fields
        self.patch = f["clip.vision.patch_size"]
        self.heads = f["clip.vision.attention.head_count"]
        self.eps = f["clip.vision.attention.layer_norm_epsilon"]
        self.qwen = f["clip.projector_type"] == "qwen2vl_merger"
        stored = f["clip.vision.block_count"]
        # The LLaVA graph takes its features before the last stored block, unless the file names the block.
        features = f.get("clip.vision.feature_layer")
        self.layers = stored if self.qwen else stored - 1
        if features is not None:
            (self.layers,) = features
        self.has_class = "v.class_embd" in weights
        gelu = f.get("clip.use_gelu", False)
        self.activation = self.math.gelu if gelu else self.math.quick_gelu
        exact = f.get("illava.vision.projector_activation") == "gelu"
        self.projector_activation = self.math.exact_gelu if exact else self.math.gelu

    def _flat(self, pixels: torch.Tensor) -> torch.Tensor:
        ny, nx, _ = pixels.shape
        rows, columns, p = ny // self.patch, nx // self.patch, self.patch
        blocks = pixels[: rows * p, : columns * p].double().reshape(rows, p, columns, p, 3)
        return blocks.permute(0, 2, 4, 1, 3).reshape(rows * columns, 3 * p * p)

    def _patches(self, pixels: torch.Tensor, second_frame: torch.Tensor | None = None) -> torch.Tensor:
        """Pixels [ny, nx, 3] to patch embeddings [rows * columns, width], row by row."""
        flat = self._flat(pixels)
        kernel = self.w["v.patch_embd.weight"].flatten(1)
        second = self.w.get("v.patch_embd.weight.1")
        if second is None:
            x = self.math.convolve(flat, kernel)
            bias = self.w.get("v.patch_embd.bias")
            return x if bias is None else x + bias
        # A still image is both frames of the temporal pair.
        later = flat if second_frame is None else self._flat(second_frame)
        return self.math.convolve(flat, kernel) + self.math.convolve(later, second.flatten(1))

    def _angles(self, rows: int, columns: int, order: torch.Tensor) -> torch.Tensor:
        """Two-dimensional rotary angles [patches, d / 2]: row angles, then column angles."""
        size = self.w["v.blk.0.attn_q.weight"].shape[0] // self.heads
        freq = frequencies(size // 4, 10000.0)
        y = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)
        x = torch.arange(columns, dtype=torch.float64).repeat(rows)
        return torch.cat([y[:, None] * freq, x[:, None] * freq], dim=1)[order]

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.math.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], self.eps)

    def encode(
        self,
        pixels: torch.Tensor,
        schedule: dict[int, int],
        grid: str = "faithful",
        accept: Callable[[Step], bool] = lambda step: True,
        second_frame: torch.Tensor | None = None,
        rule: Rule = Rule(),
    ) -> Encoded | None:
        """Runs the tower and the projector.

        `schedule` maps a layer to r, the patches it removes; with `faithful` Qwen2-VL grids r is a multiple
        of 4. Step indices name patches of the image (groups with `faithful` Qwen2-VL). They go row by row
        of the grid for LLaVA and in the order of groups for Qwen2-VL. The first step that `accept` refuses
        ends the run with None. `rule` says what becomes of them; `prumerge` acts once, behind the last
        layer, which is the layer `self.layers`. A picture smaller than the tower's own has its positions
        interpolated.
        """
        rows, columns = pixels.shape[0] // self.patch, pixels.shape[1] // self.patch
        x = self._patches(pixels, second_frame)
        angles = None
        if self.qwen:
            # Patches of a 2x2 group follow each other.
            index = torch.arange(rows * columns).reshape(rows // 2, 2, columns // 2, 2)
            order = index.permute(0, 2, 1, 3).flatten()
            x = x[order]
            angles = self._angles(rows, columns, order)
        elif self.has_class:
            token = self.w["v.class_embd"][None]
            x = torch.cat([x, token] if self.class_token == "last" else [token, x])
        if not self.qwen:
            x = x + self._positions(rows, columns)
        if "v.pre_ln.weight" in self.w:
            x = self._norm(x, "v.pre_ln")

        unit = GROUP if self.qwen and grid == "faithful" else 1
        state = State(list(range(rows * columns // unit)), angles, unit, rule)
        for layer in range(self.layers):
            x, refused = self._block(x, layer, schedule, state, accept)
            if refused:
                return None

        embeddings, cells = self._project(x, state.alive, unit, rows, columns)
        sizes = state.sizes if rule.groups and state.steps else None
        counts = state.sizes if len(state.sizes) == len(cells) else None
        if self.qwen:
            rows, columns = rows // 2, columns // 2
            sizes = sizes.reshape(-1, GROUP // unit).mean(1) if sizes is not None else None
        return Encoded(embeddings, cells, rows, columns, state.steps, sizes, counts)

    def _positions(self, rows: int, columns: int) -> torch.Tensor:
        table = self.w["v.position_embd.weight"]
        first = 1 if self.has_class and self.class_token == "first" else 0
        count = len(table) - (1 if self.has_class else 0)
        if rows * columns == count:
            return table
        side = isqrt(count)
        grid = table[first : first + count].T.reshape(1, -1, side, side)
        size = (rows, columns)
        grid = torch.nn.functional.interpolate(grid, size, mode="bicubic", align_corners=False)
        return torch.cat([table[:first], grid.reshape(table.shape[1], -1).T, table[first + count :]])

    def _block(self, x, layer, schedule, state, accept):
        name = f"v.blk.{layer}"
        normed = self._norm(x, f"{name}.ln1")
        q, k, v = (heads(self._linear(normed, f"{name}.attn_{p}"), self.heads) for p in "qkv")
        if state.angles is not None:
            q = rotate(q, state.angles, interleaved=False)
            k = rotate(k, state.angles, interleaved=False)
        out, weights = self.math.attention(q, k, v, counts=state.row_sizes(self._class_at(len(x))))
        x = x + self._linear(out, f"{name}.attn_out")
        refused = False
        if schedule.get(layer, 0) > 0:
            x = self._merge(x, layer, schedule[layer], state, k, weights)
            refused = not accept(state.steps[-1])
        hidden = self.activation(self._linear(self._norm(x, f"{name}.ln2"), f"{name}.ffn_up"))
        x = x + self._linear(hidden, f"{name}.ffn_down")
        # Behind the last layer, by its attention and keys.
        if layer + 1 == self.layers and schedule.get(self.layers, 0) > 0:
            x = self._merge(x, self.layers, schedule[self.layers], state, k, weights)
            refused = refused or not accept(state.steps[-1])
        return x, refused

    def _class_at(self, rows: int) -> int | None:
        if not self.has_class:
            return None
        return rows - 1 if self.class_token == "last" else 0

    def _merge(self, x, layer, r, state, keys, weights):
        received = weights.mean(dim=(0, 1))
        features = keys.mean(dim=0)
        token = None
        if self.has_class:
            at = self._class_at(len(x))
            if state.rule.name in ("prumerge", "visionzip") or state.rule.by_class:
                received = weights[:, at].mean(dim=0)
            token = x[at : at + 1]
            patches = [i for i in range(len(x)) if i != at]
            x, received, features = x[patches], received[patches], features[patches]
        unit, alive = state.unit, state.alive
        if r % unit:
            raise ValueError(f"r = {r} is not a multiple of the group of {unit}")
        units = x.reshape(-1, unit, x.shape[1])
        scores = received.reshape(-1, unit).mean(1)
        step = Step("encoder", layer, len(alive), scores, [], [], None)
        if state.rule.name == "merge":
            units, kept, chosen = merge(units, scores, r // unit)
            state.sizes = folded(state.sizes, kept, chosen)
            step.into = alive[chosen[-1]]
        else:
            # Keys that turn with their place do not tell what is alike; the tokens themselves do.
            features = features.reshape(len(units), -1) if state.angles is None else units.flatten(1)
            step.inputs = Inputs(features, scores, state.sizes, r // unit, 0, layer)
            units, kept, chosen, groups, state.sizes = reduce(state.rule, units, step.inputs)
            step.groups = [[alive[i] for i in group] for group in groups]
        step.kept = [alive[i] for i in kept]
        step.merged = [alive[i] for i in chosen]
        state.steps.append(step)
        state.alive = step.kept
        if state.angles is not None:
            angles = state.angles.reshape(-1, unit, state.angles.shape[1])
            state.angles = angles[kept].flatten(0, 1)
        x = units.flatten(0, 1)
        if token is not None:
            x = torch.cat([x, token] if self.class_token == "last" else [token, x])
        return x

    def _project(self, x, alive, unit, rows, columns) -> tuple[torch.Tensor, list[int]]:
        if self.qwen:
            x = self._norm(x, "v.post_ln").reshape(-1, GROUP * x.shape[1])
            # With `reference` the survivors take the first cells.
            cells = alive if unit == GROUP else list(range(len(x)))
        else:
            x = x[1:] if self.has_class else x
            cells = alive
        hidden = self.projector_activation(self._linear(x, "mm.0"))
        return self._linear(hidden, "mm.2"), cells
