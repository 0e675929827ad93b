"""Image encoders beside LLaVA's and Qwen2-VL's, and their projectors, with merging, float64.

`internvl`: learned positions, a class token that is never merged and does not go
on, factors for what a block adds. `idefics3`: SigLIP. Both projectors take groups
of side x side patches, row by row. `qwen3vl_merger`: learned positions
interpolated to the picture, rotary angles, and projected features of earlier
layers beside each output token. `qwen2.5vl_merger`: rotary angles, RMS norms,
and attention within windows in all but every n-th layer. `pixtral`: rotary angles, RMS norms, a gated MLP, groups of one
patch or, in Mistral Small, of side x side; a break follows each line of tokens but the last. `gemma3`: SigLIP, whose patches merge one by one; the
projector takes the mean of each square of side x side of them.

Patches of a group follow each other and merge together, as in encoder.py. A group's keys, put side by side, tell
what is alike; if keys turn with their place, its patches do. Features of earlier layers merge as their groups do. A
merged group stays in its survivor's window.
"""

from typing import Callable

import torch

from .arithmetic import EXACT, Arithmetic, heads, layer_norm, rms_norm, rotate
from .encoder import Encoded, Encoder, State
from .merge import Step, merge
from .strategies import Rule, reduce
from .weights import Weights

WINDOW = 112  # pixels a side


class Patches(Arithmetic):
    """Rounds as the encoder does; `f32` kernels of patches are not rounded."""

    def __init__(self, rounding: str, f32: bool):
        super().__init__(rounding)
        self.f32 = f32

    def convolve(self, patches: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return patches @ kernel.T if self.f32 else super().convolve(patches, kernel)


class Tower(Encoder):
    def __init__(self, weights: Weights, rounding: str = EXACT):
        f = weights.fields
        self.w, self.kind = weights, f["clip.projector_type"]
        # llama.cpp rounds the pixels and kernels of Qwen2.5-VL to f16.
        self.math = Patches(rounding, f32=self.kind != "qwen2.5vl_merger")
        self.patch = f["clip.vision.patch_size"]
        self.heads = f["clip.vision.attention.head_count"]
        self.eps = f["clip.vision.attention.layer_norm_epsilon"]
        self.layers = f["clip.vision.block_count"]
        self.side = f.get("clip.vision.projector.scale_factor", f.get("clip.vision.spatial_merge_size", 2))
        # The row behind each line of tokens but the last.
        self.line_break = weights.get("v.token_embd.img_break")
        self.pattern = f.get("clip.vision.n_wa_pattern", 0)
        self.has_class, self.class_token = "v.class_embd" in weights, "last"
        self.pixtral = self.kind == "pixtral"
        self.rotary = self.pixtral or self.kind.startswith("qwen")
        silu = lambda x: x * torch.sigmoid(x)
        self.activation = self.math.gelu if f.get("clip.use_gelu", False) else silu

    def _norm(self, x: torch.Tensor, name: str, eps: float | None = None) -> torch.Tensor:
        bias = self.w.get(f"{name}.bias")
        if bias is None:
            return rms_norm(x, self.w[f"{name}.weight"], eps or self.eps)
        return layer_norm(x, self.w[f"{name}.weight"], bias, eps or self.eps)

    def _mlp(self, x: torch.Tensor, first: str, second: str) -> torch.Tensor:
        return self._linear(self.math.gelu(self._linear(x, first)), second)

    def _learned(self, rows: int, columns: int) -> torch.Tensor | None:
        """Positions of the patches, row by row; then that of the class token, which the table has first."""
        table = self.w.get("v.position_embd.weight")
        if table is None or self.kind != "qwen3vl_merger":
            return table if table is None or not self.has_class else torch.cat([table[1:], table[:1]])
        side = round(len(table) ** 0.5)
        grid = table.T.reshape(1, -1, side, side)
        grid = torch.nn.functional.interpolate(grid, (rows, columns), mode="bilinear", align_corners=True)
        return grid.reshape(table.shape[1], -1).T

    def _windows(self, rows: int, columns: int, order: torch.Tensor) -> torch.Tensor:
        """The window each patch is in."""
        across = WINDOW // self.patch // self.side * self.side
        y, x = order // columns // across, order % columns // across
        return y * columns + x

    def encode(
        self,
        pixels: torch.Tensor,
        schedule: dict[int, int],
        grid: str = "faithful",
        accept: Callable[[Step], bool] = lambda step: True,
        second_frame: torch.Tensor | None = None,
        rule: Rule = Rule(),
    ) -> Encoded | None:
        """As Encoder.encode."""
        rows, columns = pixels.shape[0] // self.patch, pixels.shape[1] // self.patch
        side, group = self.side, self.side**2
        index = torch.arange(rows * columns).reshape(rows // side, side, columns // side, side)
        order = index.permute(0, 2, 1, 3).flatten()
        x = self._patches(pixels, second_frame)
        bias = self.w.get("v.patch_embd.bias")
        if bias is not None and "v.patch_embd.weight.1" in self.w:
            x = x + bias
        if self.has_class:
            x = torch.cat([x, self.w["v.class_embd"][None]])
        learned = self._learned(rows, columns)
        x = x if learned is None else x + learned
        if self.kind == "gemma3":
            order = torch.arange(rows * columns)
        x = torch.cat([x[order], x[rows * columns :]])
        if "v.pre_ln.weight" in self.w:
            x = self._norm(x, "v.pre_ln")
        unit = group if grid == "faithful" and self.kind != "gemma3" else 1
        angles = self._angles(rows, columns, order) if self.rotary else None
        state = State(list(range(rows * columns // unit)), angles, unit, rule)
        self.windows = self._windows(rows, columns, order)
        self.features = None
        for layer in range(self.layers):
            x, refused = self._block(x, layer, schedule, state, accept)
            if refused:
                return None
        if self.kind == "gemma3":
            return self._pooled(x, state, rows, columns)
        x = x[:-1] if self.has_class else x
        embeddings = self._projected(x, group)
        if self.features is not None:
            embeddings = torch.cat([embeddings, self.features], dim=1)
        cells = state.alive if unit == group else list(range(len(embeddings)))
        sizes = state.sizes if rule.groups and state.steps else None
        counts = state.sizes if len(state.sizes) == len(cells) else None
        sizes = sizes.reshape(-1, group // unit).mean(1) if sizes is not None else None
        return Encoded(embeddings, cells, rows // side, columns // side, state.steps, sizes, counts)

    def _angles(self, rows, columns, order):
        size = self.w["v.blk.0.attn_out.weight"].shape[1] // self.heads
        freq = 10000.0 ** (-torch.arange(size // 4, dtype=torch.float64) / (size // 4))
        if self.pixtral:
            # Lines have the first of each two frequencies, columns the second.
            across = freq * 10000.0 ** (-2.0 / size)
            return torch.cat([(order // columns)[:, None] * freq, (order % columns)[:, None] * across], dim=1)
        return torch.cat([(order // columns)[:, None] * freq, (order % columns)[:, None] * freq], dim=1)

    def _projected(self, x: torch.Tensor, group: int) -> torch.Tensor:
        together = lambda x: x.reshape(-1, group * x.shape[1])
        if self.kind == "internvl":
            x = self._norm(together(x), "mm.model.mlp.0", 1e-5)
            return self._mlp(x, "mm.model.mlp.1", "mm.model.mlp.3")
        if self.pixtral:
            if "mm.patch_merger.weight" in self.w:
                # Value by value, each of the group's patches in turn.
                x = self._norm(x, "mm.input_norm").reshape(-1, group, x.shape[1]).transpose(1, 2).flatten(1)
                x = self.math.linear(x, self.w["mm.patch_merger.weight"])
            return self._mlp(x, "mm.1", "mm.2")
        x = together(self._norm(x, "v.post_ln"))
        if self.kind == "idefics3":
            return self.math.linear(x, self.w["mm.model.fc.weight"])
        return self._mlp(x, "mm.0", "mm.2")

    def _pooled(self, x: torch.Tensor, state: State, rows: int, columns: int) -> Encoded:
        """Each cell is the mean of its patches that are left; one without any is left out."""
        x, side = self._norm(x, "v.post_ln"), self.side
        cell = [i // columns // side * (columns // side) + i % columns // side for i in state.alive]
        cells = sorted(set(cell))
        means = torch.stack([x[[i for i, c in enumerate(cell) if c == at]].mean(0) for at in cells])
        means = rms_norm(means, self.w["mm.soft_emb_norm.weight"], self.eps)
        embeddings = means @ self.w["mm.input_projection.weight"]
        counts = torch.zeros(len(cells), dtype=torch.float64)
        for size, at in zip(state.sizes, cell):
            counts[cells.index(at)] += size / side**2
        return Encoded(embeddings, cells, rows // side, columns // side, state.steps, counts=counts)

    def _parts(self, normed: torch.Tensor, name: str):
        if f"{name}.attn_qkv.weight" in self.w:
            return self._linear(normed, f"{name}.attn_qkv").chunk(3, dim=1)
        return (self._linear(normed, f"{name}.attn_{p}") for p in "qkv")

    def _added(self, x: torch.Tensor, factor: str) -> torch.Tensor:
        factor = self.w.get(f"{factor}.weight")
        return x if factor is None else x * factor

    def _block(self, x, layer, schedule, state, accept):
        name = f"v.blk.{layer}"
        q, k, v = (heads(p, self.heads) for p in self._parts(self._norm(x, f"{name}.ln1"), name))
        if state.angles is not None:
            q, k = (rotate(p, state.angles, interleaved=self.pixtral) for p in (q, k))
        visible = None
        if self.pattern and (layer + 1) % self.pattern:
            visible = self.windows[:, None] == self.windows
        out, weights = self.math.attention(q, k, v, visible, state.row_sizes(self._class_at(len(x))))
        x = x + self._added(self._linear(out, f"{name}.attn_out"), f"{name}.ls1")
        refused = False
        if schedule.get(layer, 0) > 0:
            x = self._merge(x, layer, schedule[layer], state, k, weights)
            refused = not accept(state.steps[-1])
        normed = self._norm(x, f"{name}.ln2")
        hidden = self.activation(self._linear(normed, f"{name}.ffn_gate" if self._gated(name) else f"{name}.ffn_up"))
        if self._gated(name):
            hidden = hidden * self._linear(normed, f"{name}.ffn_up")
        x = x + self._added(self._linear(hidden, f"{name}.ffn_down"), f"{name}.ls2")
        self._deepen(x, layer)
        return x, refused

    def _gated(self, name: str) -> bool:
        return f"{name}.ffn_gate.weight" in self.w

    def _deepen(self, x: torch.Tensor, layer: int) -> None:
        name = f"v.deepstack.{layer}"
        if f"{name}.norm.weight" not in self.w:
            return
        x = self._norm(x.reshape(-1, self.side**2 * x.shape[1]), f"{name}.norm")
        features = self._mlp(x, f"{name}.fc1", f"{name}.fc2")
        self.features = features if self.features is None else torch.cat([self.features, features], dim=1)

    def _merge(self, x, layer, r, state, keys, weights):
        before = state.alive
        x = super()._merge(x, layer, r, state, keys, weights)
        step, unit = state.steps[-1], state.unit
        if self.features is not None:
            if state.rule.name == "merge":
                self.features = merge(self.features, step.scores, r // unit)[0]
            else:
                self.features = reduce(state.rule, self.features, step.inputs)[0]
        stay = [before.index(i) for i in state.alive]
        self.windows = self.windows.reshape(-1, unit)[stay].flatten()
        return x
