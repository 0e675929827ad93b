"""Writes the pair as GGUF: text.gguf as the package has it, mmproj.gguf from tower and projector."""

from collections.abc import Collection
from pathlib import Path

import gguf
import numpy as np

from .tower import EPSILON, HEADS, LAYERS, MEAN, PATCH, STD, WIDTH, position_table

TEXT_WIDTH = 576
# Pixels of a picture: 256 tokens, which is inside what the projector was trained on.
SIDE = 224
# Matrices that stay in f32.
EXACT = {"v.position_embd.weight"}

# SmolLM2's own turns; behind a picture stands a line break, as in training.
TEMPLATE = """{%- macro say(parts) -%}
{%- if parts is string -%}{{ parts }}{%- else -%}{%- for part in parts -%}
{%- if part.type == 'image' -%}{{ '<image>\\n' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- if messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + say(message.content) + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""


def write_text(path: Path, content: bytes) -> None:
    """Writes the language model as the package has it, but for its chat template."""
    path.write_bytes(content)
    reader = gguf.GGUFReader(path)
    copy = path.with_suffix(".new")
    writer = gguf.GGUFWriter(copy, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "tokenizer.chat_template"):
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    writer.add_chat_template(TEMPLATE)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_shape=tensor.data.shape, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    copy.replace(path)


def write_projector(
    path: Path,
    tensors: dict[str, np.ndarray],
    projector: dict[str, np.ndarray],
    side: int = SIDE,
    layers: int = LAYERS,
    exact: Collection[str] = (),
) -> None:
    """Writes a tower of `layers` blocks and the projector; matrices in f16, those named in `exact` and all else in f32."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.name", "DINOv2 ViT-S/14, projector for SmolLM2-135M-Instruct")
    writer.add_string("general.license", "apache-2.0")
    for key, value in (("has_vision_encoder", True), ("has_llava_projector", True), ("use_gelu", True)):
        writer.add_bool("clip." + key, value)
    writer.add_string("clip.projector_type", "mlp")
    for key, number in (
        ("image_size", side),
        ("patch_size", PATCH),
        ("embedding_length", WIDTH),
        ("feed_forward_length", 4 * WIDTH),
        ("block_count", layers),
        ("attention.head_count", HEADS),
        ("projection_dim", TEXT_WIDTH),
    ):
        writer.add_uint32("clip.vision." + key, number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", EPSILON)
    writer.add_array("clip.vision.image_mean", list(MEAN))
    writer.add_array("clip.vision.image_std", list(STD))
    writer.add_array("clip.vision.feature_layer", [layers])
    writer.add_string("clip.vision.mm_patch_merge_type", "flat")
    for key, text in (
        ("family", "llava"),
        ("projector_activation", "gelu"),
        ("class_token", "first"),
        ("image_aspect_ratio", "pad"),
        ("resample", "bicubic"),
    ):
        writer.add_string("illava.vision." + key, text)
    writer.add_array("illava.vision.pad_color", [round(255 * mean) for mean in MEAN])

    own = {name: value for name, value in tensors.items() if name.startswith("v.")}
    own["v.position_embd.weight"] = position_table(tensors, side // PATCH)
    for name, value in {**own, **projector}.items():
        matrix = name.endswith(".weight") and value.ndim > 1 and name not in EXACT and name not in exact
        writer.add_tensor(name, np.ascontiguousarray(value, np.float16 if matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
