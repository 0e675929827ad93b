"""Tiny projectors of the types that few files have, beside those in projectors.py."""

from math import sqrt
from typing import Iterator

from .projectors import _BOUNDS, _dots_ocr, _glm4v, _patches, _two, Projector, Size
from .tensors import KERNEL, VECTOR, Tensor, linear, matrix, norm

# MobileVLM's graphs take no other number of patches a side.
MOBILE = 24


def _block(s: Size, name: str, squeezed: int = 16) -> Iterator[Tensor]:
    """An inverted residual of MobileNet."""
    yield Tensor(f"{name}.0.0.weight", (s.output, 1, 3, 3), KERNEL, 0.3)
    yield from norm(f"{name}.0.1", s.output, bias=True)
    yield from linear(f"{name}.1.fc1", squeezed, s.output)
    yield from linear(f"{name}.1.fc2", s.output, squeezed)
    yield matrix(f"{name}.2.0.weight", s.output, s.output)
    yield from norm(f"{name}.2.1", s.output, bias=True)


def _ldp(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from _two(s, "mm.model.mlp.1", "mm.model.mlp.3", s.width)
    yield from _block(s, "mm.model.mb_block.1.block")
    yield from _block(s, "mm.model.mb_block.2.block")


def _ldpv2(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from _two(s, "mm.model.mlp.0", "mm.model.mlp.2", s.width)
    yield Tensor("mm.model.peg.0.weight", (s.output, 1, 3, 3), KERNEL, 0.3)
    yield Tensor("mm.model.peg.0.bias", (s.output,), VECTOR, 0.1)


def _adapter(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield Tensor("adapter.conv.weight", (s.output, s.width, 2, 2), KERNEL, 0.5 / sqrt(4 * s.width))
    yield Tensor("adapter.conv.bias", (s.output,), VECTOR, 0.1)
    yield matrix("adapter.linear.linear.weight", s.output, s.output)
    yield from norm("adapter.linear.norm1", s.output, bias=True)
    for name in ("dense_h_to_4h", "gate"):
        yield matrix(f"adapter.linear.{name}.weight", 96, s.output)
    yield matrix("adapter.linear.dense_4h_to_h.weight", s.output, 96)
    for name in ("boi", "eoi"):
        yield Tensor(f"adapter.{name}", (s.output,), VECTOR, 0.5)


def _step3vl(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from norm("v.pre_ln", s.width, bias=True)
    yield Tensor("mm.0.weight", (48, s.width, 3, 3), KERNEL, 0.5 / sqrt(9 * s.width))
    yield Tensor("mm.1.weight", (64, 48, 3, 3), KERNEL, 0.5 / sqrt(9 * 48))
    yield matrix("mm.model.fc.weight", s.output, 64)


def _cogvlm(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, positions=s.cells**2 + 1)
    yield Tensor("v.class_embd", (s.width,), VECTOR, 1.0)
    yield matrix("mm.model.fc.weight", s.output, s.width)
    yield from norm("mm.post_fc_norm", s.output, bias=True)
    yield matrix("mm.up.weight", 96, s.output)
    yield matrix("mm.gate.weight", 96, s.output)
    yield matrix("mm.down.weight", s.output, 96)
    for name in ("boi", "eoi"):
        yield Tensor(f"v.{name}", (s.output,), VECTOR, 0.5)



def _youtuvl(s: Size) -> Iterator[Tensor]:
    yield Tensor("v.patch_embd.weight", (s.width, 3 * s.patch**2), KERNEL, 0.5 / sqrt(3 * s.patch))
    yield Tensor("v.patch_embd.bias", (s.width,), VECTOR, 0.1)
    yield from norm("v.post_ln", s.width, bias=True)
    yield from norm("mm.input_norm", s.width, bias=False)
    yield from _two(s, "mm.0", "mm.2", 4 * s.width)


def _exaone(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, bias=False, positions=0, kernels=2)
    yield from norm("v.post_ln", s.width, bias=False)
    yield from _two(s, "mm.0", "mm.2", 4 * s.width)


def _mimovl(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, bias=False, positions=0, kernels=2)
    yield from norm("v.post_ln", s.width, bias=True)
    yield matrix("mm.0.weight", 64, 4 * s.width)
    yield matrix("mm.2.weight", s.output, 64)
    for layer in range(2):
        yield Tensor(f"v.blk.{layer}.attn_sinks", (s.heads,), VECTOR, 0.5)


def _minimax(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, bias=False, positions=0, kernels=2)
    yield from norm("v.pre_ln", s.width, bias=True)
    yield from _two(s, "mm.1", "mm.2", s.width)
    yield from _two(s, "mm.merger.fc1", "mm.merger.fc2", 4 * s.output)


def _muse_glimmer(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from norm("v.pre_ln", s.width, bias=True)
    yield from norm("v.post_ln", s.width, bias=True)
    yield matrix("mm.0.weight", 64, 4 * s.width)
    yield matrix("mm.1.weight", 64, 64)
    yield matrix("mm.2.weight", s.output, 64)


def _gemma4uv(s: Size) -> Iterator[Tensor]:
    values = 3 * (3 * s.patch) ** 2
    yield Tensor("v.patch_embd.weight", (s.width, values), KERNEL, 1 / sqrt(values))
    yield Tensor("v.patch_embd.bias", (s.width,), VECTOR, 0.1)
    yield Tensor("v.position_embd.weight", (2, 128, s.width), VECTOR, 0.5)
    yield from norm("v.patch_norm.1", values, bias=True)
    yield from norm("v.patch_norm.2", s.width, bias=True)
    yield from norm("v.patch_norm.3", s.width, bias=True)
    yield matrix("mm.input_projection.weight", s.output, s.width)



# The resampler's heads are 128 wide.
WIDE, QUERIES = 128, 4


def _resampler(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, positions=70 * 70)
    yield from norm("v.post_ln", s.width, bias=True)
    yield Tensor("resampler.pos_embed_k", (QUERIES, WIDE), VECTOR, 0.5)
    yield Tensor("resampler.query", (QUERIES, WIDE), VECTOR, 1.0)
    yield matrix("resampler.proj.weight", WIDE, WIDE)
    yield matrix("resampler.kv.weight", WIDE, s.width)
    for part in ("q", "k", "v", "out"):
        yield from linear(f"resampler.attn.{part}", WIDE, WIDE)
    for part in ("q", "kv", "post"):
        yield from norm(f"resampler.ln_{part}", WIDE, bias=True)


def _minicpmv4_6(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, positions=70 * 70)
    yield from norm("v.post_ln", s.width, bias=True)
    yield from norm("v.vit_merger.ln1", s.width, bias=True)
    for part in ("q", "k", "v", "out"):
        yield from linear(f"v.vit_merger.attn_{part}", s.width, s.width)
    yield from norm("v.vit_merger.ds_ln", 4 * s.width, bias=True)
    yield from linear("v.vit_merger.ds_ffn_up", 4 * s.width, 4 * s.width)
    yield from linear("v.vit_merger.ds_ffn_down", s.width, 4 * s.width)
    yield from norm("mm.input_norm", 4 * s.width, bias=True)
    yield from _two(s, "mm.up", "mm.down", 4 * s.width)


def _yasa2(s: Size) -> Iterator[Tensor]:
    """One stage of ConvNeXt with one block."""
    yield from _patches(s, positions=0)
    yield from norm("v.patch_ln", s.width, bias=True)
    block = "v.stage.0.blk.0"
    yield Tensor(f"{block}.dw.weight", (s.width, 1, 7, 7), KERNEL, 0.1)
    yield Tensor(f"{block}.dw.bias", (s.width,), VECTOR, 0.1)
    yield from norm(f"{block}.ln", s.width, bias=True)
    yield from linear(f"{block}.pw1", 4 * s.width, s.width)
    yield from norm(f"{block}.grn", 4 * s.width, bias=True)
    yield from linear(f"{block}.pw2", s.width, 4 * s.width)
    yield from _two(s, "mm.0", "mm.2", s.width)


MORE = {
    "yasa2": Projector(_yasa2, blocks=0, type_name="f16", marks=("</image>",)),
    "resampler": Projector(
        _resampler, text="llama_wide", marks=("</image>", "<slice>", "</slice>"),
        top=(("minicpmv_version", 3), ("minicpmv_query_num", QUERIES)),
    ),
    "minicpmv4_6": Projector(
        _minicpmv4_6, keys=(("projector.scale_factor", 4),), arrays=(("wa_layer_indexes", (0,)),),
        marks=("</image>", "<slice>", "</slice>"),
    ),
    "ldp": Projector(_ldp, size=Size(side=MOBILE * Size.patch), type_name="f16"),
    "ldpv2": Projector(_ldpv2, size=Size(side=MOBILE * Size.patch), type_name="f16"),
    "adapter": Projector(_adapter),
    # The library's tiles are 504 pixels a side, which must be whole numbers of 4 x 4 patches.
    "step3vl": Projector(
        _step3vl, keys=(("preproc_image_size", 112), ("projector.scale_factor", 4)), fused=True,
        size=Size(patch=14, side=112),
        marks=("<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>"),
    ),
    "cogvlm": Projector(_cogvlm, fused=True),
    "dots3note_v": Projector(
        _dots_ocr, text="qwen2", keys=(("spatial_merge_size", 2), ("expert_used_count", 2), *_BOUNDS), gated=True, bias=False, gelu=False
    ),
    "youtuvl": Projector(_youtuvl, keys=(("window_size", 32),), arrays=(("wa_layer_indexes", (1,)),)),
    "exaone4_5": Projector(
        _exaone, keys=(("attention.head_count_kv", 2), *_BOUNDS), fused=True, gated=True, rms=True, gelu=False
    ),
    "mimovl": Projector(
        _mimovl, keys=(("attention.head_count_kv", 2), ("window_size", 16), *_BOUNDS),
        arrays=(("wa_pattern_mode", (0, 1, -1)),), blocks=3, fused=True, gated=True, rms=True, gelu=False,
    ),
    "minimax_m3": Projector(_minimax),
    "muse-glimmer": Projector(_muse_glimmer),
    "gemma4uv": Projector(_gemma4uv, blocks=0),
    "glm5v": Projector(
        _glm4v, keys=_BOUNDS, floats=(("swiglu_clamp", 7.0),), gated=True, bias=False, gelu=False
    ),
}
