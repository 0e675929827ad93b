"""Writes a tower or a decoder as a GGUF file, tensor by tensor."""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from . import projectors
from .families import cut_for, more_tensors, write_keys
from .quantise import byte_shape, quantise, random_blocks, row_fits, zero_columns, zero_rows
from .random_weights import bell
from .projectors import Projector, projector_tensors
from .shapes import Decoder, Tower
from .tensors import KERNEL, MATRIX, TABLE, Tensor, decoder_tensors, has_head_norms, tower_tensors
from .vocabulary import Vocabulary

TYPES = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (Type.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "q4_k": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    # The smallest a 34B comes in without a matrix of importances.
    "q2_k": (Type.Q2_K, LlamaFileType.MOSTLY_Q2_K),
}
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
_FLOATS = (Type.F32, Type.F16)


def _more_bits(layer: int, layers: int) -> bool:
    """The layers in which the Q4_K_M mix spends Q6_K on values and on the second MLP matrix."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _decoder_type(tensor: Tensor, decoder: Decoder, base: Type) -> Type:
    """The type of one decoder tensor in a file of type `base`, as users' files have it."""
    if tensor.kind not in (MATRIX, TABLE):
        return Type.F32
    if base in _FLOATS or base == Type.Q8_0:
        return base
    width = tensor.shape[-1]
    if tensor.name == "output.weight" or (tensor.kind == TABLE and decoder.tied):
        return Type.Q6_K if row_fits(width, Type.Q6_K) else Type.Q8_0
    if base == Type.Q4_K:
        if not row_fits(width, Type.Q4_K):
            return Type.Q5_0
        if "attn_v" in tensor.name or "ffn_down" in tensor.name:
            layer = int(tensor.name.split(".")[1])
            return Type.Q6_K if _more_bits(layer, decoder.layers) else Type.Q4_K
    return base


def _tower_type(tensor: Tensor, base: Type) -> Type:
    if tensor.kind == MATRIX:
        return base
    # The convolution lays patches out in the kernel's type, which has to be a float.
    if tensor.kind == KERNEL:
        return Type.F32 if base == Type.F32 else Type.F16
    return Type.F32


def _data(tensor: Tensor, kind: Type, seed: int, random_codes: bool) -> np.ndarray:
    if tensor.values:
        return np.array(tensor.values, np.float32)
    if random_codes and kind not in _FLOATS:
        data = random_blocks(seed, tensor.name, tensor.shape, kind, tensor.std)
        if tensor.zero_rows:
            zero_rows(data, tensor.zero_rows, kind)
        if tensor.zero_columns:
            zero_columns(data, tensor.zero_columns, kind)
        return data
    values = bell(seed, tensor.name, tensor.shape) * np.float32(tensor.std)
    values += np.float32(tensor.mean)
    if random_codes and kind == Type.F16:
        # as in a file that was converted from a checkpoint in bf16, since a speed does depend on it
        bits = values.view(np.uint32)
        values = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    if tensor.kind == KERNEL:
        values = values.astype(np.float16).astype(np.float32)
    if tensor.zero_rows:
        values[-tensor.zero_rows :] = 0
    if tensor.zero_columns:
        values[:, -tensor.zero_columns :] = 0
    return quantise(values, kind)


def _write(
    writer, path: Path, tensors: list[tuple[Tensor, Type]], seed: int, random_codes: bool, zeros: bool = False
):
    """Streams the tensors; at most one is in memory. With `zeros` a file has a hole in place of all of them."""
    sizes = []
    for tensor, kind in tensors:
        if kind in _FLOATS:
            dtype = np.dtype(np.float32 if kind == Type.F32 else np.float16)
            nbytes = int(np.prod(tensor.shape)) * dtype.itemsize
            writer.add_tensor_info(tensor.name, tensor.shape, dtype, nbytes)
            sizes.append(nbytes)
        else:
            shape = byte_shape(tensor.shape, kind)
            writer.add_tensor_info(
                tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind
            )
            sizes.append(int(np.prod(shape)))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    writer.write_header_to_file(part)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if zeros:
        (file,) = writer.fout
        padded = lambda n: gguf.GGUFWriter.ggml_pad(n, writer.data_alignment)
        file.truncate(padded(file.tell()) + sum(map(padded, sizes)))
    else:
        for tensor, kind in tensors:
            writer.write_tensor_data(_data(tensor, kind, seed, random_codes))
    writer.close()
    part.replace(path)


def write_tower(
    path: Path, tower: Tower, type_name: str, seed: int, name: str, random_codes=False, family: str | None = None,
    activation: str | None = None,
):
    """Writes the mmproj file of `tower`, with what a converted one of `family` says."""
    if family is not None:
        tower = cut_for(family, tower)
    base, file_type = TYPES[type_name]
    writer = gguf.GGUFWriter(path=None, arch="clip")
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_text_encoder", False)
    qwen = tower.family == "qwen2vl"
    writer.add_bool("clip.has_llava_projector", not qwen)
    writer.add_string("clip.projector_type", "qwen2vl_merger" if qwen else "mlp")
    # Neither flag set means the quick GELU of CLIP and Qwen2-VL.
    writer.add_bool("clip.use_gelu", tower.family == "siglip")
    writer.add_bool("clip.use_silu", False)
    if activation is not None:
        writer.add_string("clip.vision.hidden_act", activation)
        writer.add_string("clip.vision.projector.hidden_act", activation)
    for key, value in (
        ("image_size", tower.image),
        ("patch_size", tower.patch),
        ("embedding_length", tower.width),
        ("feed_forward_length", tower.mlp),
        ("block_count", tower.stored),
        ("attention.head_count", tower.heads),
        ("projection_dim", tower.output),
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", tower.eps)
    siglip = tower.family == "siglip"
    writer.add_array("clip.vision.image_mean", [0.5] * 3 if siglip else CLIP_MEAN)
    writer.add_array("clip.vision.image_std", [0.5] * 3 if siglip else CLIP_STD)
    if tower.mlp_padded_from is not None:
        writer.add_uint32("illava.vision.mlp_padded_from", tower.mlp_padded_from)
    more = []
    if family is not None:
        write_keys(writer, family, tower)
        more = more_tensors(family, tower)
    tensors = [(t, _tower_type(t, base)) for t in [*tower_tensors(tower), *more]]
    _write(writer, path, tensors, seed, random_codes)


def write_projector(
    path: Path, kind: str, projector: Projector, seed: int, type_name: str = "f32", zeros: bool = False,
    random_codes: bool = False,
):
    """Writes the mmproj file of a type that llama.cpp marks the pictures of."""
    base, file_type = TYPES[type_name]
    writer = gguf.GGUFWriter(path=None, arch="clip")
    writer.add_name(f"{kind} test projector")
    writer.add_file_type(file_type)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", projector.kind or kind)
    projectors.write_keys(writer, projector)
    writer.add_array("clip.vision.image_mean", [0.5] * 3)
    writer.add_array("clip.vision.image_std", [0.5] * 3)
    tensors = [(tensor, _tower_type(tensor, base)) for tensor in projector_tensors(projector)]
    _write(writer, path, tensors, seed, random_codes, zeros)


def write_decoder(
    path: Path,
    decoder: Decoder,
    vocabulary: Vocabulary,
    type_name: str,
    seed: int,
    name: str,
    random_codes=False,
    zeros=False,
):
    """Writes the text file of `decoder`."""
    base, file_type = TYPES[type_name]
    writer = gguf.GGUFWriter(path=None, arch=decoder.arch)
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_context_length(decoder.context)
    writer.add_embedding_length(decoder.width)
    writer.add_block_count(decoder.layers + decoder.guessing)
    if decoder.guessing:
        writer.add_nextn_predict_layers(decoder.guessing)
    writer.add_feed_forward_length(decoder.mlp)
    writer.add_head_count(decoder.heads)
    kv_heads = [decoder.kv_heads_of(layer) for layer in range(decoder.layers)]
    writer.add_head_count_kv(kv_heads if decoder.full_kv_heads else decoder.kv_heads)
    writer.add_layer_norm_rms_eps(decoder.eps)
    writer.add_rope_freq_base(decoder.rope_base)
    writer.add_vocab_size(decoder.vocabulary)
    if decoder.arch in ("llama", "phi3", "granite") or decoder.rotated:
        writer.add_rope_dimension_count(decoder.rotated or decoder.head_size)
    if decoder.rope_sections is not None:
        writer.add_rope_dimension_sections(decoder.rope_sections)
    if has_head_norms(decoder) or decoder.head:
        writer.add_key_length(decoder.head_size)
        writer.add_value_length(decoder.head_size)
    if decoder.deepstack:
        writer.add_uint32(f"{decoder.arch}.n_deepstack_layers", decoder.deepstack)
    if decoder.experts:
        writer.add_expert_count(decoder.experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(decoder.mlp)
    if decoder.arch == "glm4moe":
        writer.add_expert_shared_count(1)
        writer.add_leading_dense_block_count(decoder.dense)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_weights_norm(True)
        writer.add_expert_weights_scale(1.5)
    if decoder.arch == "gemma4":
        writer.add_embedding_length_per_layer_input(0)
        writer.add_shared_kv_layers(0)
        writer.add_final_logit_softcapping(30.0)
        writer.add_rope_freq_base_swa(1e4)
        writer.add_rope_dimension_count_swa(decoder.window_head)
        writer.add_key_length_swa(decoder.window_head)
        writer.add_value_length_swa(decoder.window_head)
        writer.add_sliding_window_pattern([decoder.windowed(layer) for layer in range(decoder.layers)])
    if decoder.window:
        writer.add_sliding_window(decoder.window)
    if decoder.window_every and decoder.arch != "gemma4":
        writer.add_uint32(f"{decoder.arch}.attention.sliding_window_pattern", decoder.window_every)
    if decoder.scales:
        embedding, residual, attention, logit = decoder.scales
        writer.add_embedding_scale(embedding)
        writer.add_residual_scale(residual)
        writer.add_attention_scale(attention)
        writer.add_logit_scale(logit)
    vocabulary.write(writer)
    tensors = [(t, _decoder_type(t, decoder, base)) for t in decoder_tensors(decoder)]
    _write(writer, path, tensors, seed, random_codes, zeros)
