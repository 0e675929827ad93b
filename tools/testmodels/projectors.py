"""Projectors of the types that llama.cpp runs by its own rules. Tiny ones have a text model each that takes their rows;
those for timing are in the shapes of released models.

Which tensors and keys a type has is read off the pinned llama.cpp's tools/mtmd/clip.cpp and models/.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from typing import Callable, Iterator

from .shapes import Decoder
from .tensors import KERNEL, SCALE, VECTOR, Tensor, linear, matrix, norm

OUTPUT = 64


@dataclass(frozen=True)
class Size:
    """Numbers of an encoder; `output` is the text model's width."""

    width: int = 32
    heads: int = 2
    mlp: int = 64
    patch: int = 8
    output: int = OUTPUT
    hidden: int = 64  # of the projector
    side: int = 64  # of the picture that the table of positions is for
    deep: tuple[int, ...] = (0, 1)  # of Qwen3-VL's blocks, those that give features to its text model's first layers

    @property
    def cells(self) -> int:
        """Patches of that picture's side."""
        return self.side // self.patch


@dataclass(frozen=True)
class Projector:
    """`tensors` without the blocks; `keys` below clip.vision, whole numbers. `merge` patches a side make one row."""

    tensors: Callable[[Size], Iterator[Tensor]]
    text: str = "llama"
    keys: tuple[tuple[str, int], ...] = ()
    fused: bool = False
    gated: bool = False
    bias: bool = True
    rms: bool = False  # norms without a bias beside linear maps that have one
    gelu: bool = True
    marks: tuple[str, ...] = ()
    size: Size = Size()
    blocks: int = 2
    scaled: bool = False  # each block has factors for what it adds
    kind: str | None = None  # clip.projector_type, if it is not the name here
    video: tuple[tuple[str, int], ...] = ()  # keys below illava.video
    floats: tuple[tuple[str, float], ...] = ()  # more keys below clip.vision
    arrays: tuple[tuple[str, tuple[int, ...]], ...] = ()
    top: tuple[tuple[str, int], ...] = ()  # keys below clip
    type_name: str = "f32"  # the narrowest that llama.cpp computes it in


def _patches(s: Size, bias: bool = True, positions: int | None = None, kernels: int = 1) -> Iterator[Tensor]:
    positions = s.cells**2 if positions is None else positions
    spread = 0.5 / sqrt(3 * s.patch)
    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1")[:kernels]:
        yield Tensor(name, (s.width, 3, s.patch, s.patch), KERNEL, spread)
    if bias:
        yield Tensor("v.patch_embd.bias", (s.width,), VECTOR, 0.1)
    if positions:
        yield Tensor("v.position_embd.weight", (positions, s.width), VECTOR, 0.5)


def _two(s: Size, first: str, second: str, columns: int, hidden: int | None = None) -> Iterator[Tensor]:
    yield from linear(first, hidden or s.hidden, columns)
    yield from linear(second, s.output, hidden or s.hidden, gain=0.35, bias=0.8)


def _qwen3vl(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, kernels=2)
    yield from norm("v.post_ln", s.width, bias=True)
    yield from _two(s, "mm.0", "mm.2", 4 * s.width, hidden=4 * s.width)
    for block in s.deep:
        yield from norm(f"v.deepstack.{block}.norm", 4 * s.width, bias=True)
        yield from _two(s, f"v.deepstack.{block}.fc1", f"v.deepstack.{block}.fc2", 4 * s.width, hidden=4 * s.width)


def _qwen2_5vl(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, bias=False, positions=0, kernels=2)
    yield from norm("v.post_ln", s.width, bias=False)
    yield from _two(s, "mm.0", "mm.2", 4 * s.width, hidden=4 * s.width)


def _gemma3(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from norm("v.post_ln", s.width, bias=True)
    # The graph turns it round.
    yield Tensor("mm.input_projection.weight", (s.width, s.output), KERNEL, 1 / sqrt(s.width))
    yield Tensor("mm.soft_emb_norm.weight", (s.width,), SCALE, 0.1, 1.0)


def _internvl(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, positions=s.cells**2 + 1)
    yield Tensor("v.class_embd", (s.width,), VECTOR, 1.0)
    yield from norm("mm.model.mlp.0", 4 * s.width, bias=True)
    yield from _two(s, "mm.model.mlp.1", "mm.model.mlp.3", 4 * s.width)


def _idefics3(s: Size, scale: int = 2) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from norm("v.post_ln", s.width, bias=True)
    yield matrix("mm.model.fc.weight", s.output, scale**2 * s.width)


def _pixtral(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, bias=False, positions=0)
    yield from norm("v.pre_ln", s.width, bias=False)
    yield from _two(s, "mm.1", "mm.2", s.width)
    yield Tensor("v.token_embd.img_break", (s.output,), VECTOR, 0.5)


def _mistral_small(s: Size) -> Iterator[Tensor]:
    yield from _pixtral(s)
    yield from norm("mm.input_norm", s.width, bias=False)
    yield matrix("mm.patch_merger.weight", s.width, 4 * s.width)


def _lightonocr(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, bias=False, positions=0)
    yield from norm("v.pre_ln", s.width, bias=False)
    yield from norm("mm.input_norm", s.width, bias=False)
    yield matrix("mm.patch_merger.weight", s.width, 4 * s.width)
    yield from _two(s, "mm.1", "mm.2", s.width)


def _lfm2(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from norm("v.post_ln", s.width, bias=True)
    yield from norm("mm.input_norm", 4 * s.width, bias=True)
    yield from _two(s, "mm.1", "mm.2", 4 * s.width)


def _kimivl(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from norm("v.post_ln", s.width, bias=True)
    yield from norm("mm.input_norm", s.width, bias=True)
    yield from _two(s, "mm.1", "mm.2", 4 * s.width)


def _phi4(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield from norm("v.post_ln", s.width, bias=True)
    yield from _two(s, "mm.0", "mm.2", s.width)


def _dots_ocr(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, positions=0)
    yield from norm("mm.post_norm", s.width, bias=False)
    yield from norm("mm.input_norm", s.width, bias=True)
    yield from _two(s, "mm.0", "mm.2", 4 * s.width)


def _kimik25(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, positions=0)
    yield Tensor("v.position_embd.weight", (s.cells, s.cells, s.width), VECTOR, 0.5)
    yield from norm("v.post_ln", s.width, bias=True)
    yield from norm("mm.input_norm", s.width, bias=True)
    yield from _two(s, "mm.1", "mm.2", 4 * s.width)


def _nemotron(s: Size) -> Iterator[Tensor]:
    yield from _patches(s)
    yield Tensor("v.class_embd", (4, s.width), VECTOR, 1.0)
    yield from norm("mm.model.mlp.0", 4 * s.width, bias=False)
    yield matrix("mm.model.mlp.1.weight", 64, 4 * s.width)
    yield matrix("mm.model.mlp.3.weight", s.output, 64)


def _ling3vl(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, kernels=2)
    yield from norm("mm.input_norm", s.width, bias=True)
    yield from _two(s, "mm.0", "mm.2", 4 * s.width)


def _glm4v(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, positions=0, kernels=2)
    yield from norm("v.post_ln", s.width, bias=False)
    yield Tensor("mm.patch_merger.weight", (64, s.width, 2, 2), KERNEL, 0.5 / sqrt(4 * s.width))
    yield Tensor("mm.patch_merger.bias", (64,), VECTOR, 0.1)
    yield matrix("mm.model.fc.weight", s.output, 64)
    yield from norm("mm.post_norm", s.output, bias=True)
    yield matrix("mm.up.weight", 96, s.output)
    yield matrix("mm.gate.weight", 96, s.output)
    yield matrix("mm.down.weight", s.output, 96)


def _llama4(s: Size) -> Iterator[Tensor]:
    yield Tensor("v.patch_embd.weight", (s.width, 3 * s.patch * s.patch), KERNEL, 0.5 / sqrt(3 * s.patch))
    yield Tensor("v.position_embd.weight", (s.cells**2 + 1, s.width), VECTOR, 0.5)
    yield Tensor("v.class_embd", (s.width,), VECTOR, 1.0)
    yield from norm("v.pre_ln", s.width, bias=True)
    yield from norm("v.post_ln", s.width, bias=True)
    yield matrix("mm.model.mlp.1.weight", 64, 4 * s.width)
    yield matrix("mm.model.mlp.2.weight", 64, 64)
    yield matrix("mm.model.fc.weight", s.output, 64)


def _gemma4v(s: Size) -> Iterator[Tensor]:
    yield from _patches(s, bias=False, positions=0)
    # A table of columns and one of rows.
    yield Tensor("v.position_embd.weight", (2, 128, s.width), VECTOR, 0.5)
    yield matrix("mm.input_projection.weight", s.output, s.width)


_BOUNDS = (("image_min_pixels", 1024), ("image_max_pixels", 16384))
PROJECTORS = {
    "qwen2.5vl_merger": Projector(
        _qwen2_5vl, text="qwen2vl", keys=(("spatial_merge_size", 2), ("n_wa_pattern", 2)), gated=True, rms=True,
        gelu=False, size=Size(side=256), blocks=4,
        video=(("min_pixels", 1024), ("max_pixels", 16384), ("total_pixels", 65536)),
    ),
    "qwen3vl_merger": Projector(
        _qwen3vl, text="qwen3vl", keys=(("spatial_merge_size", 2), *_BOUNDS), fused=True, blocks=4,
        video=(("min_pixels", 4096), ("max_pixels", 65536)),
    ),
    "gemma3": Projector(
        _gemma3, text="gemma3", keys=(("projector.scale_factor", 2),), marks=("<start_of_image>", "<end_of_image>"), blocks=4
    ),
    "internvl": Projector(
        _internvl, text="qwen2", keys=(("projector.scale_factor", 2),), marks=("<img>", "</img>"), blocks=4, scaled=True
    ),
    "idefics3": Projector(
        _idefics3,
        keys=(("projector.scale_factor", 2), ("preproc_image_size", 64)),
        marks=("<fake_token_around_image>", "<global-img>", "<row_1_col_1>"),
        blocks=4,
    ),
    # The sides of Idefics 3 and SmolVLM2 as released, which say how pictures are cut.
    "idefics3-364": Projector(
        _idefics3,
        keys=(("projector.scale_factor", 2), ("preproc_image_size", 1456)),
        marks=("<fake_token_around_image>", "<global-img>", "<row_1_col_1>"),
        blocks=1, kind="idefics3", size=Size(patch=14, side=364),
    ),
    "idefics3-384": Projector(
        partial(_idefics3, scale=3),
        keys=(("projector.scale_factor", 3), ("preproc_image_size", 1536)),
        marks=("<fake_token_around_image>", "<global-img>", "<row_1_col_1>"),
        blocks=1, kind="idefics3", size=Size(patch=14, side=384),
    ),
    "pixtral": Projector(
        _pixtral, keys=(("spatial_merge_size", 1),), gated=True, bias=False, gelu=False, marks=("[IMG_END]",), blocks=4
    ),
    "mistral_small": Projector(
        _mistral_small, keys=(("spatial_merge_size", 2),), gated=True, bias=False, gelu=False, marks=("[IMG_END]",),
        blocks=4, kind="pixtral", size=Size(side=96),
    ),
    "lightonocr": Projector(_lightonocr, text="qwen2", keys=(("spatial_merge_size", 2),), gated=True, bias=False),
    "lfm2": Projector(_lfm2, keys=(("projector.scale_factor", 2),), marks=("<|img_thumbnail|>",)),
    "kimivl": Projector(_kimivl, keys=(("projector.scale_factor", 2),)),
    "phi4": Projector(_phi4, keys=_BOUNDS),
    "dots_ocr": Projector(
        _dots_ocr, text="qwen2", keys=(("projector.scale_factor", 2), *_BOUNDS), gated=True, bias=False, gelu=False
    ),
    "paddleocr": Projector(_kimivl, keys=_BOUNDS),
    "kimik25": Projector(_kimik25, keys=(("projector.scale_factor", 2),)),
    "nemotron_v2_vl": Projector(_nemotron, keys=(("projector.scale_factor", 2),)),
    "glm4v": Projector(_glm4v, gated=True, bias=False, gelu=False),
    "llama4": Projector(_llama4, keys=(("projector.scale_factor", 2),)),
    "gemma4v": Projector(_gemma4v, gated=True, bias=False),
    "ling3vl": Projector(_ling3vl, keys=(("spatial_merge_size", 2),)),
}

# In the shapes of released models. Each is named after the type of its projector and the text model whose width it has.
_MODELS = {
    "gemma3-4b": ("gemma3", Size(1152, 16, 4304, 14, 2560, 0, 896), 27, (("projector.scale_factor", 4),)),
    "internvl3-8b": ("internvl", Size(1024, 16, 4096, 14, 3584, 3584, 448), 24, (("projector.scale_factor", 2),)),
    "qwen2.5vl-7b": (
        "qwen2.5vl_merger", Size(1280, 16, 3420, 14, 3584, 5120, 560), 32,
        (("spatial_merge_size", 2), ("n_wa_pattern", 8)),
    ),
    "qwen3vl-8b": (
        "qwen3vl_merger", Size(1152, 16, 4304, 16, 4096, 4608, 768, (8, 16, 24)), 27, (("spatial_merge_size", 2),)
    ),
}
TIMING_PROJECTORS = {
    name: replace(PROJECTORS[kind], size=size, blocks=blocks, keys=keys, kind=kind, video=())
    for name, (kind, size, blocks, keys) in _MODELS.items()
}

DECODERS = {
    "llama_wide": Decoder("llama", 128, 4, 4, 4, 160, 384, 4096, 1e4, 1e-5, tied=False),
    "llama": Decoder("llama", OUTPUT, 4, 4, 4, 160, 384, 4096, 1e4, 1e-5, tied=False),
    "qwen2": Decoder("qwen2", OUTPUT, 4, 4, 2, 160, 384, 4096, 1e6, 1e-6, tied=False),
    "qwen2vl": Decoder("qwen2vl", OUTPUT, 4, 4, 2, 160, 384, 4096, 1e6, 1e-6, False, (3, 3, 2, 0)),
    "qwen3vl": Decoder("qwen3vl", OUTPUT, 4, 4, 2, 160, 384, 4096, 1e6, 1e-6, False, (3, 3, 2, 0), deepstack=2),
    "gemma3": Decoder("gemma3", OUTPUT, 7, 4, 2, 160, 384, 4096, 1e6, 1e-6, tied=True, window=16),
}


def projector_tensors(projector: Projector) -> Iterator[Tensor]:
    s = projector.size
    yield from projector.tensors(s)
    for i in range(projector.blocks):
        block = f"v.blk.{i}"
        yield from norm(f"{block}.ln1", s.width, bias=projector.bias and not projector.rms)
        for name, rows in ((("attn_qkv", 3 * s.width),) if projector.fused else
                           (("attn_q", s.width), ("attn_k", s.width), ("attn_v", s.width))):
            yield from _maybe(projector.bias, f"{block}.{name}", rows, s.width)
        yield from _maybe(projector.bias, f"{block}.attn_out", s.width, s.width, 0.7)
        yield from norm(f"{block}.ln2", s.width, bias=projector.bias and not projector.rms)
        for name in ("ffn_up", "ffn_gate") if projector.gated else ("ffn_up",):
            yield from _maybe(projector.bias, f"{block}.{name}", s.mlp, s.width)
        for name in ("ls1", "ls2") if projector.scaled else ():
            yield Tensor(f"{block}.{name}.weight", (s.width,), SCALE, 0.1, 1.0)
        yield from _maybe(projector.bias, f"{block}.ffn_down", s.width, s.mlp, 0.25)


def _maybe(bias: bool, name: str, rows: int, columns: int, gain: float = 1.0) -> Iterator[Tensor]:
    if bias:
        yield from linear(name, rows, columns, gain)
    else:
        yield matrix(f"{name}.weight", rows, columns, gain)


def write_keys(writer, projector: Projector) -> None:
    """Adds the keys of clip.vision to a GGUFWriter."""
    s = projector.size
    writer.add_bool("clip.use_gelu", projector.gelu)
    writer.add_bool("clip.use_silu", not projector.gelu)
    for key, value in (
        ("image_size", s.side),
        ("patch_size", s.patch),
        ("embedding_length", s.width),
        ("feed_forward_length", s.mlp),
        ("block_count", projector.blocks),
        ("attention.head_count", s.heads),
        ("projection_dim", s.output),
        *projector.keys,
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    for key, value in projector.top:
        # llama.cpp reads this one signed.
        (writer.add_int32 if key == "minicpmv_version" else writer.add_uint32)(f"clip.{key}", value)
    for key, value in projector.floats:
        writer.add_float32(f"clip.vision.{key}", value)
    for key, values in projector.arrays:
        writer.add_array(f"clip.vision.{key}", list(values))
    for key, value in projector.video:
        writer.add_uint32(f"illava.video.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
