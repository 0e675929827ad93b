"""Tiny projectors of the types that llama.cpp runs by its own rules, each with a text model that takes its rows.

Which tensors and keys a type has is read off the pinned llama.cpp's tools/mtmd/clip.cpp and models/.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Callable, Iterator

from .shapes import Decoder
from .tensors import KERNEL, SCALE, VECTOR, Tensor, linear, matrix, norm

WIDTH, HEADS, MLP, PATCH, OUTPUT = 32, 2, 64, 8, 64
SIDE = 64
# How many of Qwen3-VL's blocks also give features to the first layers of its text model.
DEEP = 2


@dataclass(frozen=True)
class Projector:
    """`tensors` without the blocks; `keys` below clip.vision, whole numbers. `merge` patches a side make one row."""

    tensors: Callable[[], Iterator[Tensor]]
    text: str = "llama"
    keys: tuple[tuple[str, int], ...] = ()
    fused: bool = False
    gated: bool = False
    bias: bool = True
    rms: bool = False  # norms without a bias beside linear maps that have one
    gelu: bool = True
    marks: tuple[str, ...] = ()
    side: int = SIDE
    blocks: int = 2
    scaled: bool = False  # each block has factors for what it adds
    kind: str | None = None  # clip.projector_type, if it is not the name here


def _patches(bias: bool = True, positions: int = (SIDE // PATCH) ** 2, kernels: int = 1) -> Iterator[Tensor]:
    spread = 0.5 / sqrt(3 * PATCH)
    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1")[:kernels]:
        yield Tensor(name, (WIDTH, 3, PATCH, PATCH), KERNEL, spread)
    if bias:
        yield Tensor("v.patch_embd.bias", (WIDTH,), VECTOR, 0.1)
    if positions:
        yield Tensor("v.position_embd.weight", (positions, WIDTH), VECTOR, 0.5)


def _two(first: str, second: str, columns: int, hidden: int = 64, rows: int = OUTPUT) -> Iterator[Tensor]:
    yield from linear(first, hidden, columns)
    yield from linear(second, rows, hidden, gain=0.35, bias=0.8)


def _qwen3vl() -> Iterator[Tensor]:
    yield from _patches(kernels=2)
    yield from norm("v.post_ln", WIDTH, bias=True)
    yield from _two("mm.0", "mm.2", 4 * WIDTH, hidden=4 * WIDTH)
    for block in range(DEEP):
        yield from norm(f"v.deepstack.{block}.norm", 4 * WIDTH, bias=True)
        yield from _two(f"v.deepstack.{block}.fc1", f"v.deepstack.{block}.fc2", 4 * WIDTH, hidden=4 * WIDTH)


def _qwen2_5vl() -> Iterator[Tensor]:
    yield from _patches(bias=False, positions=0, kernels=2)
    yield from norm("v.post_ln", WIDTH, bias=False)
    yield from _two("mm.0", "mm.2", 4 * WIDTH, hidden=4 * WIDTH)


def _gemma3() -> Iterator[Tensor]:
    yield from _patches()
    yield from norm("v.post_ln", WIDTH, bias=True)
    # The graph turns it round.
    yield Tensor("mm.input_projection.weight", (WIDTH, OUTPUT), KERNEL, 1 / sqrt(WIDTH))
    yield Tensor("mm.soft_emb_norm.weight", (WIDTH,), SCALE, 0.1, 1.0)


def _internvl() -> Iterator[Tensor]:
    yield from _patches(positions=(SIDE // PATCH) ** 2 + 1)
    yield Tensor("v.class_embd", (WIDTH,), VECTOR, 1.0)
    yield from norm("mm.model.mlp.0", 4 * WIDTH, bias=True)
    yield from _two("mm.model.mlp.1", "mm.model.mlp.3", 4 * WIDTH)


def _idefics3() -> Iterator[Tensor]:
    yield from _patches()
    yield from norm("v.post_ln", WIDTH, bias=True)
    yield matrix("mm.model.fc.weight", OUTPUT, 4 * WIDTH)


def _pixtral() -> Iterator[Tensor]:
    yield from _patches(bias=False, positions=0)
    yield from norm("v.pre_ln", WIDTH, bias=False)
    yield from _two("mm.1", "mm.2", WIDTH)
    yield Tensor("v.token_embd.img_break", (OUTPUT,), VECTOR, 0.5)


def _mistral_small() -> Iterator[Tensor]:
    yield from _pixtral()
    yield from norm("mm.input_norm", WIDTH, bias=False)
    yield matrix("mm.patch_merger.weight", WIDTH, 4 * WIDTH)


def _lightonocr() -> Iterator[Tensor]:
    yield from _patches(bias=False, positions=0)
    yield from norm("v.pre_ln", WIDTH, bias=False)
    yield from norm("mm.input_norm", WIDTH, bias=False)
    yield matrix("mm.patch_merger.weight", WIDTH, 4 * WIDTH)
    yield from _two("mm.1", "mm.2", WIDTH)


def _lfm2() -> Iterator[Tensor]:
    yield from _patches()
    yield from norm("v.post_ln", WIDTH, bias=True)
    yield from norm("mm.input_norm", 4 * WIDTH, bias=True)
    yield from _two("mm.1", "mm.2", 4 * WIDTH)


def _kimivl() -> Iterator[Tensor]:
    yield from _patches()
    yield from norm("v.post_ln", WIDTH, bias=True)
    yield from norm("mm.input_norm", WIDTH, bias=True)
    yield from _two("mm.1", "mm.2", 4 * WIDTH)


def _phi4() -> Iterator[Tensor]:
    yield from _patches()
    yield from norm("v.post_ln", WIDTH, bias=True)
    yield from _two("mm.0", "mm.2", WIDTH)


def _dots_ocr() -> Iterator[Tensor]:
    yield from _patches(positions=0)
    yield from norm("mm.post_norm", WIDTH, bias=False)
    yield from norm("mm.input_norm", WIDTH, bias=True)
    yield from _two("mm.0", "mm.2", 4 * WIDTH)


def _kimik25() -> Iterator[Tensor]:
    yield from _patches(positions=0)
    yield Tensor("v.position_embd.weight", (SIDE // PATCH, SIDE // PATCH, WIDTH), VECTOR, 0.5)
    yield from norm("v.post_ln", WIDTH, bias=True)
    yield from norm("mm.input_norm", WIDTH, bias=True)
    yield from _two("mm.1", "mm.2", 4 * WIDTH)


def _nemotron() -> Iterator[Tensor]:
    yield from _patches()
    yield Tensor("v.class_embd", (4, WIDTH), VECTOR, 1.0)
    yield from norm("mm.model.mlp.0", 4 * WIDTH, bias=False)
    yield matrix("mm.model.mlp.1.weight", 64, 4 * WIDTH)
    yield matrix("mm.model.mlp.3.weight", OUTPUT, 64)


def _ling3vl() -> Iterator[Tensor]:
    yield from _patches(kernels=2)
    yield from norm("mm.input_norm", WIDTH, bias=True)
    yield from _two("mm.0", "mm.2", 4 * WIDTH)


def _glm4v() -> Iterator[Tensor]:
    yield from _patches(positions=0, kernels=2)
    yield from norm("v.post_ln", WIDTH, bias=False)
    yield Tensor("mm.patch_merger.weight", (64, WIDTH, 2, 2), KERNEL, 0.5 / sqrt(4 * WIDTH))
    yield Tensor("mm.patch_merger.bias", (64,), VECTOR, 0.1)
    yield matrix("mm.model.fc.weight", OUTPUT, 64)
    yield from norm("mm.post_norm", OUTPUT, bias=True)
    yield matrix("mm.up.weight", 96, OUTPUT)
    yield matrix("mm.gate.weight", 96, OUTPUT)
    yield matrix("mm.down.weight", OUTPUT, 96)


def _llama4() -> Iterator[Tensor]:
    yield Tensor("v.patch_embd.weight", (WIDTH, 3 * PATCH * PATCH), KERNEL, 0.5 / sqrt(3 * PATCH))
    yield Tensor("v.position_embd.weight", ((SIDE // PATCH) ** 2 + 1, WIDTH), VECTOR, 0.5)
    yield Tensor("v.class_embd", (WIDTH,), VECTOR, 1.0)
    yield from norm("v.pre_ln", WIDTH, bias=True)
    yield from norm("v.post_ln", WIDTH, bias=True)
    yield matrix("mm.model.mlp.1.weight", 64, 4 * WIDTH)
    yield matrix("mm.model.mlp.2.weight", 64, 64)
    yield matrix("mm.model.fc.weight", OUTPUT, 64)


def _gemma4v() -> Iterator[Tensor]:
    yield from _patches(bias=False, positions=0)
    # A table of columns and one of rows.
    yield Tensor("v.position_embd.weight", (2, 128, WIDTH), VECTOR, 0.5)
    yield matrix("mm.input_projection.weight", OUTPUT, WIDTH)


_BOUNDS = (("image_min_pixels", 1024), ("image_max_pixels", 16384))
PROJECTORS = {
    "qwen2.5vl_merger": Projector(
        _qwen2_5vl, text="qwen2vl", keys=(("spatial_merge_size", 2), ("n_wa_pattern", 2)), gated=True, rms=True,
        gelu=False, side=256, blocks=4,
    ),
    "qwen3vl_merger": Projector(_qwen3vl, text="qwen3vl", keys=(("spatial_merge_size", 2),), fused=True, blocks=4),
    "gemma3": Projector(
        _gemma3, text="gemma3", keys=(("projector.scale_factor", 2),), marks=("<start_of_image>", "<end_of_image>"), blocks=4
    ),
    "internvl": Projector(
        _internvl, text="qwen2", keys=(("projector.scale_factor", 2),), marks=("<img>", "</img>"), blocks=4, scaled=True
    ),
    "idefics3": Projector(
        _idefics3,
        keys=(("projector.scale_factor", 2), ("preproc_image_size", SIDE)),
        marks=("<fake_token_around_image>", "<global-img>", "<row_1_col_1>"),
        blocks=4,
    ),
    "pixtral": Projector(
        _pixtral, keys=(("spatial_merge_size", 1),), gated=True, bias=False, gelu=False, marks=("[IMG_END]",), blocks=4
    ),
    "mistral_small": Projector(
        _mistral_small, keys=(("spatial_merge_size", 2),), gated=True, bias=False, gelu=False, marks=("[IMG_END]",),
        blocks=4, kind="pixtral",
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

DECODERS = {
    "llama": Decoder("llama", OUTPUT, 4, 4, 4, 160, 384, 4096, 1e4, 1e-5, tied=False),
    "qwen2": Decoder("qwen2", OUTPUT, 4, 4, 2, 160, 384, 4096, 1e6, 1e-6, tied=False),
    "qwen2vl": Decoder("qwen2vl", OUTPUT, 4, 4, 2, 160, 384, 4096, 1e6, 1e-6, False, (3, 3, 2, 0)),
    "qwen3vl": Decoder("qwen3vl", OUTPUT, 4, 4, 2, 160, 384, 4096, 1e6, 1e-6, False, (3, 3, 2, 0), deepstack=DEEP),
    "gemma3": Decoder("gemma3", OUTPUT, 7, 4, 2, 160, 384, 4096, 1e6, 1e-6, tied=True, window=16),
}


def projector_tensors(projector: Projector) -> Iterator[Tensor]:
    yield from projector.tensors()
    for i in range(projector.blocks):
        block = f"v.blk.{i}"
        yield from norm(f"{block}.ln1", WIDTH, bias=projector.bias and not projector.rms)
        for name, rows in ((("attn_qkv", 3 * WIDTH),) if projector.fused else
                           (("attn_q", WIDTH), ("attn_k", WIDTH), ("attn_v", WIDTH))):
            yield from _maybe(projector.bias, f"{block}.{name}", rows, WIDTH)
        yield from _maybe(projector.bias, f"{block}.attn_out", WIDTH, WIDTH, 0.7)
        yield from norm(f"{block}.ln2", WIDTH, bias=projector.bias and not projector.rms)
        for name in ("ffn_up", "ffn_gate") if projector.gated else ("ffn_up",):
            yield from _maybe(projector.bias, f"{block}.{name}", MLP, WIDTH)
        for name in ("ls1", "ls2") if projector.scaled else ():
            yield Tensor(f"{block}.{name}.weight", (WIDTH,), SCALE, 0.1, 1.0)
        yield from _maybe(projector.bias, f"{block}.ffn_down", WIDTH, MLP, 0.25)


def _maybe(bias: bool, name: str, rows: int, columns: int, gain: float = 1.0) -> Iterator[Tensor]:
    if bias:
        yield from linear(name, rows, columns, gain)
    else:
        yield matrix(f"{name}.weight", rows, columns, gain)


def write_keys(writer, projector: Projector) -> None:
    """Adds the keys of clip.vision to a GGUFWriter."""
    writer.add_bool("clip.use_gelu", projector.gelu)
    writer.add_bool("clip.use_silu", not projector.gelu)
    for key, value in (
        ("image_size", projector.side),
        ("patch_size", PATCH),
        ("embedding_length", WIDTH),
        ("feed_forward_length", MLP),
        ("block_count", projector.blocks),
        ("attention.head_count", HEADS),
        ("projection_dim", OUTPUT),
        *projector.keys,
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
