"""Writes the GGUF pair that llama.cpp runs as a LLaVA.

`python -m demo.export CHECKPOINT ../models/demo --vit 2,3,4,5:12,12,12,12 --llm 1:0.5
 --evaluated SENTENCE`
"""

import argparse
from pathlib import Path

import gguf

from . import vocabulary as v
from .evaluate import load
from .model import Schedule
from .scenes import PATCH, SIDE

_TOWER = {"norm1": "ln1", "norm2": "ln2", "q": "attn_q", "k": "attn_k", "v": "attn_v",
          "out": "attn_out", "up": "ffn_up", "down": "ffn_down"}
_TEXT = {"norm1": "attn_norm", "norm2": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v",
         "out": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vit", default="", help="encoder: layers:tokens removed, as 2,3:12,12")
    parser.add_argument("--llm", default="", help="decoder: layers:shares kept, as 1:0.5")
    parser.add_argument("--evaluated", required=True, help="by what the schedule was chosen")
    a = parser.parse_args()
    model, _ = load(a.checkpoint)
    weights = {name: t.float().numpy() for name, t in model.state_dict().items()}
    schedule = Schedule(*_half(a.vit, int), *_half(a.llm, float))
    for write, name in ((_text, "text"), (_projector, "mmproj")):
        writer = write(a.folder / f"{name}.gguf", model.config, weights)
        _recommend(writer, schedule, a.evaluated)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _half(text, number):
    layers, amounts = text.split(":") if text else ("", "")
    found = (tuple(int(x) for x in layers.split(",") if x),
             tuple(number(x) for x in amounts.split(",") if x))
    if len(found[0]) != len(found[1]):
        raise SystemExit(f"{text}: as many amounts as layers are needed")
    return found


def _recommend(writer, schedule, evaluated):
    """The schedule that `--merge model` takes; an empty half merges nothing there."""
    for half, key, values in (("vit", "layers", schedule.vit_layers), ("vit", "r", schedule.vit_r),
                              ("llm", "layers", schedule.llm_layers),
                              ("llm", "keep", schedule.llm_keep)):
        if values:      # GGUF arrays carry their element type, which an empty one has not
            writer.add_array(f"illava.merge.{half}_{key}", list(values))
    writer.add_string("illava.merge.evaluated", evaluated)


def _text(path, c, weights):
    w = gguf.GGUFWriter(path, "qwen2")
    w.add_name("illava demo v0")
    w.add_description("Answers questions about rendered shapes and pages; see its README.")
    w.add_context_length(2048)
    w.add_embedding_length(c.width)
    w.add_block_count(c.layers)
    w.add_feed_forward_length(c.mlp)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.heads)
    w.add_rope_freq_base(c.theta)
    w.add_layer_norm_rms_eps(c.eps)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    normal, control, unused = (gguf.TokenType[n] for n in ("NORMAL", "CONTROL", "UNUSED"))
    special = v.ORDINARY + len(v.SPECIAL)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(v.TOKENS)
    w.add_token_types([normal] * v.ORDINARY + [control] * len(v.SPECIAL)
                      + [unused] * (v.SIZE - special))
    w.add_token_merges([" ".join(pair) for pair in v.MERGES])
    w.add_eos_token_id(v.END)
    w.add_pad_token_id(v.PAD)
    w.add_add_bos_token(False)
    w.add_chat_template(v.CHAT_TEMPLATE)
    w.add_tensor("token_embd.weight", weights["decoder.embedding.weight"])
    w.add_tensor("output_norm.weight", weights["decoder.norm.weight"])
    for layer in range(c.layers):
        _layer(w, weights, f"decoder.layers.{layer}.", f"blk.{layer}.", _TEXT)
    return w


def _projector(path, c, weights):
    w = gguf.GGUFWriter(path, "clip")
    w.add_name("illava demo v0")
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    for key, value in dict(has_vision_encoder=True, has_text_encoder=False,
                           has_llava_projector=True, use_gelu=True, use_silu=False).items():
        w.add_bool(f"clip.{key}", value)
    w.add_string("clip.projector_type", "mlp")
    # llama.cpp's LLaVA graph takes the output of the layer before the last; so one more is
    # stored, a copy that is never run.
    stored = c.tower_layers + 1
    for key, value in dict(image_size=SIDE, patch_size=PATCH, embedding_length=c.tower_width,
                           feed_forward_length=c.tower_mlp, block_count=stored,
                           projection_dim=c.width).items():
        w.add_uint32(f"clip.vision.{key}", value)
    w.add_uint32("clip.vision.attention.head_count", c.tower_heads)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", c.eps)
    w.add_array("clip.vision.image_mean", [0.5] * 3)
    w.add_array("clip.vision.image_std", [0.5] * 3)
    w.add_tensor("v.patch_embd.weight", weights["tower.patch.weight"].reshape(-1, 3, PATCH, PATCH))
    w.add_tensor("v.patch_embd.bias", weights["tower.patch.bias"])
    w.add_tensor("v.position_embd.weight", weights["tower.position"])
    for layer in range(stored):
        source = min(layer, c.tower_layers - 1)
        _layer(w, weights, f"tower.layers.{source}.", f"v.blk.{layer}.", _TOWER)
    for ours, theirs in (("project1", "mm.0"), ("project2", "mm.2")):
        for part in ("weight", "bias"):
            w.add_tensor(f"{theirs}.{part}", weights[f"{ours}.{part}"])
    return w


def _layer(writer, weights, ours, theirs, names):
    for a, b in names.items():
        for part in ("weight", "bias"):
            if f"{ours}{a}.{part}" in weights:
                writer.add_tensor(f"{theirs}{b}.{part}", weights[f"{ours}{a}.{part}"])


if __name__ == "__main__":
    main()
