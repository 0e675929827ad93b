"""The projector's file: the image encoder, the projector and how pictures reach them."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from .model import ONEVISION, QWEN2VL as QWEN2VL_FAMILY, Model
from .output import KERNEL, MATRIX, TABLE, VECTOR, Output, Tensors
from .towers import CLIP, QWEN2VL, Tower

_BLOCK = {"ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
          "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
# Values of a quantised block; an MLP narrower than a whole number of them is padded.
_BLOCK_WIDTH = 32


def padded_mlp(tower: Tower, base: Type) -> int:
    """The stored width of the MLP: SigLIP-so400m's 4304 is 134.5 blocks, 4320 is 135."""
    if base != Type.Q8_0:
        return tower.mlp
    return -(-tower.mlp // _BLOCK_WIDTH) * _BLOCK_WIDTH


def write_metadata(writer: gguf.GGUFWriter, model: Model, base: Type) -> None:
    tower, qwen = model.tower, model.family == QWEN2VL_FAMILY
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_text_encoder", False)
    writer.add_bool("clip.has_llava_projector", not qwen)
    writer.add_string("clip.projector_type", "qwen2vl_merger" if qwen else "mlp")
    # Neither flag set means the quick GELU of CLIP and Qwen2-VL.
    writer.add_bool("clip.use_gelu", tower.activation != "quick_gelu")
    writer.add_bool("clip.use_silu", False)
    mlp = padded_mlp(tower, base)
    for key, value in (
        ("image_size", tower.image), ("patch_size", tower.patch), ("embedding_length", tower.width),
        ("feed_forward_length", mlp), ("block_count", tower.used), ("attention.head_count", tower.heads),
        ("projection_dim", model.text.width),
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", tower.eps)
    writer.add_array("clip.vision.image_mean", tower.mean)
    writer.add_array("clip.vision.image_std", tower.std)
    writer.add_string("illava.vision.family", model.family)
    # llama.cpp's own keys know the tanh approximation and no exact GELU.
    writer.add_string("clip.vision.hidden_act", tower.activation)
    writer.add_string("clip.vision.projector.hidden_act", model.projector_activation)
    if qwen:
        writer.add_uint32("clip.vision.spatial_merge_size", 2)
        writer.add_uint32("illava.vision.temporal_patch_size", 2)
    else:
        # Blocks behind the features are not stored, so that the last stored one is the last that runs.
        writer.add_array("clip.vision.feature_layer", [tower.used])
    if tower.kind == CLIP:
        writer.add_string("clip.vision.class_token", "first")
    if mlp != tower.mlp:
        writer.add_uint32("illava.vision.mlp_padded_from", tower.mlp)
    model.pictures.write(writer)


def outputs(model: Model, base: Type) -> list[Output]:
    found = _qwen2vl(model) if model.family == QWEN2VL_FAMILY else _llava(model, base)
    unused = {
        name for name in model.tower_tensors.sources
        if name.startswith("tower.encoder.layers.") and int(name.split(".")[3]) >= model.tower.used
    }
    model.tower_tensors.finish(ignored=unused)
    return found


def _llava(model: Model, base: Type) -> list[Output]:
    tower, tensors, w = model.tower, model.tower_tensors, model.tower.width
    clip = tower.kind == CLIP
    found = [tensors.plain("v.patch_embd.weight", "tower.embeddings.patch_embedding.weight",
                           (w, 3, tower.patch, tower.patch), KERNEL)]
    if clip:
        found.append(tensors.plain("v.class_embd", "tower.embeddings.class_embedding", (w,)))
        for kind in ("weight", "bias"):
            found.append(tensors.plain(f"v.pre_ln.{kind}", f"tower.pre_layrnorm.{kind}", (w,)))
    else:
        found.append(tensors.plain("v.patch_embd.bias", "tower.embeddings.patch_embedding.bias", (w,)))
    # Rows are looked up and added: never a quantised matrix.
    found.append(tensors.plain("v.position_embd.weight", "tower.embeddings.position_embedding.weight",
                               (tower.patches + clip, w), VECTOR))
    for i in range(tower.used):
        found += _block(tensors, tower, f"v.blk.{i}", f"tower.encoder.layers.{i}", padded_mlp(tower, base))
    hidden = tensors.sources.get("projector.0.weight")
    middle = hidden.shape[0] if hidden is not None else model.text.width
    found += _linear(tensors, "mm.0", "projector.0", middle, w)
    found += _linear(tensors, "mm.2", "projector.2", model.text.width, middle)
    if model.family == ONEVISION or "newline" in tensors.sources:
        found.append(tensors.plain("v.image_newline", "newline", (model.text.width,)))
    return found


def _linear(tensors: Tensors, name: str, source: str, rows: int, columns: int) -> list[Output]:
    return [tensors.plain(f"{name}.weight", f"{source}.weight", (rows, columns)),
            tensors.plain(f"{name}.bias", f"{source}.bias", (rows,))]


def _block(tensors: Tensors, tower: Tower, ours: str, theirs: str, mlp: int) -> list[Output]:
    w, found = tower.width, []
    for part, source in _BLOCK.items():
        name, stored = f"{ours}.{part}", f"{theirs}.{source}"
        if part in ("ln1", "ln2"):
            found += [tensors.plain(f"{name}.{kind}", f"{stored}.{kind}", (w,)) for kind in ("weight", "bias")]
        elif part == "ffn_up":
            found.append(_more_rows(tensors.plain(f"{name}.weight", f"{stored}.weight", (tower.mlp, w)), mlp))
            found.append(_more_rows(tensors.plain(f"{name}.bias", f"{stored}.bias", (tower.mlp,)), mlp))
        elif part == "ffn_down":
            found.append(_more_columns(tensors.plain(f"{name}.weight", f"{stored}.weight", (w, tower.mlp)), mlp))
            found.append(tensors.plain(f"{name}.bias", f"{stored}.bias", (w,)))
        else:
            found += _linear(tensors, name, stored, w, w)
    return found


def _more_rows(output: Output, count: int) -> Output:
    """Zero rows behind the stored ones: with a zero bias they give GELU(0) = 0."""
    stored = output.shape[0]

    def rows(start: int, stop: int) -> np.ndarray:
        values = np.zeros((stop - start, *output.shape[1:]), np.float32)
        if start < stored:
            values[: min(stop, stored) - start] = output.rows(start, min(stop, stored))
        return values

    return output if count == stored else Output(output.name, (count, *output.shape[1:]), output.kind, rows)


def _more_columns(output: Output, count: int) -> Output:
    """Zero columns behind the stored ones, for what the zero rows give."""
    more = count - output.shape[1]

    def rows(start: int, stop: int) -> np.ndarray:
        return np.pad(output.rows(start, stop), ((0, 0), (0, more)))

    return output if more == 0 else Output(output.name, (output.shape[0], count), output.kind, rows)


def _qwen2vl(model: Model) -> list[Output]:
    tower, tensors, w = model.tower, model.tower_tensors, model.tower.width
    kernel = tensors.get("tower.patch_embed.proj.weight", (w, 3, 2, tower.patch, tower.patch))
    found = []
    for frame, suffix in enumerate(("", ".1")):
        def frame_rows(start: int, stop: int, frame: int = frame) -> np.ndarray:
            return kernel.rows(start, stop)[:, :, frame]

        found.append(Output(f"v.patch_embd.weight{suffix}", (w, 3, tower.patch, tower.patch), KERNEL, frame_rows))
    for i in range(tower.used):
        ours, theirs = f"v.blk.{i}", f"tower.blocks.{i}"
        for part in ("1", "2"):
            found += [tensors.plain(f"{ours}.ln{part}.{kind}", f"{theirs}.norm{part}.{kind}", (w,))
                      for kind in ("weight", "bias")]
        found += _thirds(tensors, ours, f"{theirs}.attn.qkv", w)
        found += _linear(tensors, f"{ours}.attn_out", f"{theirs}.attn.proj", w, w)
        found += _linear(tensors, f"{ours}.ffn_up", f"{theirs}.mlp.fc1", tower.mlp, w)
        found += _linear(tensors, f"{ours}.ffn_down", f"{theirs}.mlp.fc2", w, tower.mlp)
    for kind in ("weight", "bias"):
        found.append(tensors.plain(f"v.post_ln.{kind}", f"tower.merger.ln_q.{kind}", (w,)))
    found += _linear(tensors, "mm.0", "tower.merger.mlp.0", 4 * w, 4 * w)
    found += _linear(tensors, "mm.2", "tower.merger.mlp.2", model.text.width, 4 * w)
    return found


def _thirds(tensors: Tensors, ours: str, theirs: str, w: int) -> list[Output]:
    """Query, key and value, which the checkpoint stacks."""
    found = []
    for kind, shape in (("weight", (w, w)), ("bias", (w,))):
        stored = tensors.get(f"{theirs}.{kind}", (3 * w, *shape[1:]))
        for third, part in enumerate("qkv"):
            def rows(start: int, stop: int, stored=stored, first: int = third * w) -> np.ndarray:
                return stored.rows(first + start, first + stop)

            found.append(Output(f"{ours}.attn_{part}.{kind}", shape, MATRIX if len(shape) == 2 else VECTOR, rows))
    return found
