"""Writes the pair that llama.cpp and illava run as a LLaVA-OneVision.

`python -m demo.export CHECKPOINT FOLDER --merge-vit 2,3,4,5:25,25,25,25 --merge-llm 2:0.7
 --evaluated SENTENCE`

First the checkpoint as such models are released, in the layout of transformers; then that through
the project's converter, so that the pair says of itself what a converted one says.
"""

import argparse
import json
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from convert.pair import Job, convert
from convert.recommend import Recommendation

from . import vocabulary as v
from .evaluate import load

_TOWER = {"norm1": "layer_norm1", "norm2": "layer_norm2", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
          "v": "self_attn.v_proj", "out": "self_attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2"}
_TEXT = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm", "q": "self_attn.q_proj",
         "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.o_proj", "gate": "mlp.gate_proj",
         "up": "mlp.up_proj", "down": "mlp.down_proj"}
_VISION = "vision_tower.vision_model."
_LANGUAGE = "language_model.model."
_FIXED = {"tower.patch.bias": _VISION + "embeddings.patch_embedding.bias",
          "tower.position": _VISION + "embeddings.position_embedding.weight",
          "project1": "multi_modal_projector.linear_1", "project2": "multi_modal_projector.linear_2",
          "newline": "image_newline", "decoder.embedding.weight": _LANGUAGE + "embed_tokens.weight",
          "decoder.norm.weight": _LANGUAGE + "norm.weight"}
# The pre-tokenizer of Qwen2.
_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def released_name(name):
    """The name of a weight in the layout of transformers."""
    if name in _FIXED:
        return _FIXED[name]
    parts = name.split(".")
    if parts[0] in _FIXED:
        return f"{_FIXED[parts[0]]}.{parts[1]}"
    if parts[0] == "tower":
        return f"{_VISION}encoder.layers.{parts[2]}.{_TOWER[parts[3]]}.{parts[4]}"
    return f"{_LANGUAGE}layers.{parts[2]}.{_TEXT[parts[3]]}.{parts[4]}"


def write_checkpoint(model, folder):
    """A checkpoint folder in the layout of transformers."""
    g = model.geometry
    weights = {}
    for name, value in model.state_dict().items():
        if name == "tower.patch.weight":
            weights[_VISION + "embeddings.patch_embedding.weight"] = value.view(-1, 3, g.patch, g.patch)
        else:
            weights[released_name(name)] = value
    save_file({name: value.contiguous() for name, value in weights.items()},
              folder / "model.safetensors", {"format": "pt"})

    def save(name, content):
        (folder / name).write_text(json.dumps(content))

    # No tiles: every picture is one view, as in the paper's own example of 729 tokens.
    picture = {"image_processor_type": "LlavaOnevisionImageProcessor", "do_resize": True, "do_rescale": True,
               "do_normalize": True, "do_convert_rgb": True, "do_pad": True, "image_mean": [0.5] * 3,
               "image_std": [0.5] * 3, "resample": 3, "rescale_factor": 1 / 255,
               "size": {"height": g.side, "width": g.side}, "image_grid_pinpoints": []}
    save("preprocessor_config.json", picture)
    save("processor_config.json", {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": g.tokens,
                                   "vision_feature_select_strategy": "full",
                                   "vision_aspect_ratio": "anyres_max_9"})
    save("config.json", {
        "architectures": ["LlavaOnevisionForConditionalGeneration"], "model_type": "llava_onevision",
        "image_token_index": v.IDS["<image>"], "video_token_index": v.IDS["<video>"],
        "projector_hidden_act": "gelu", "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": "anyres_max_9", "image_grid_pinpoints": [], "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "text_config": {
            "model_type": "qwen2", "hidden_size": g.width, "intermediate_size": g.mlp,
            "num_hidden_layers": g.layers, "num_attention_heads": g.heads, "num_key_value_heads": g.heads,
            "rms_norm_eps": g.eps, "rope_theta": g.theta, "max_position_embeddings": 4096,
            "vocab_size": v.SIZE, "hidden_act": "silu", "tie_word_embeddings": True,
            "bos_token_id": None, "eos_token_id": v.END},
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": g.tower_width, "intermediate_size": g.tower_mlp,
            "num_hidden_layers": g.tower_layers, "num_attention_heads": g.tower_heads, "image_size": g.side,
            "patch_size": g.patch, "layer_norm_eps": g.eps, "hidden_act": "gelu_pytorch_tanh",
            "vision_use_head": False},
    })
    _tokenizer(save)
    (folder / "chat_template.jinja").write_text(v.CHAT_TEMPLATE)


def _tokenizer(save):
    split = {"type": "Split", "pattern": {"Regex": _PATTERN}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    special = [{"id": v.ORDINARY + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i, token in enumerate(v.SPECIAL)]
    save("tokenizer.json", {
        "version": "1.0", "added_tokens": special, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_]},
        "post_processor": bytes_, "decoder": bytes_,
        "model": {"type": "BPE", "byte_fallback": False, "ignore_merges": False, "unk_token": None,
                  "vocab": {token: i for i, token in enumerate(v.TOKENS[:v.ORDINARY])},
                  "merges": [list(pair) for pair in v.MERGES]}})
    save("tokenizer_config.json", {
        "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "bos_token": None,
        "eos_token": "<|end|>", "pad_token": "<|pad|>", "model_max_length": 4096,
        "added_tokens_decoder": {str(t["id"]): {"content": t["content"], "special": True} for t in special}})


def export(model, folder, recommendation=Recommendation(), kind="f16"):
    """Writes text.gguf and mmproj.gguf."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch)
        write_checkpoint(model, source)
        written = convert(Job(source, folder, "illava-demo", kind, kind, recommendation=recommendation))
    for path, name in zip(written, ("text.gguf", "mmproj.gguf")):
        path.replace(folder / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--type", choices=("f32", "f16"), default="f16", help="of both files")
    Recommendation.add_arguments(parser)
    a = parser.parse_args()
    export(load(a.checkpoint)[0], a.folder, Recommendation.of(a), a.type)


if __name__ == "__main__":
    main()
