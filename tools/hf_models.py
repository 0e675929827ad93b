"""The test pairs' weights inside the classes of Hugging Face transformers.

Choices that make the two libraries compute the same function:
- LLaVA takes `hidden_states[-2]`, the stream before the last stored block and
  before any final norm, as llama.cpp's graph does. Strategy `full` for SigLIP,
  `default` (without the class token) for CLIP.
- llama.cpp's GELU is the tanh approximation also in projectors, for which the released
  configurations say the exact one: the projector's activation is set to the approximation here.
- Rows of query and key matrices in files of the llama architecture are ordered
  for neighbouring pairs; transformers rotates halves.
- llama.cpp's LLaVA graph puts the class token after the patches without moving
  the position table or the rows it passes on. `class_token="last"` reproduces
  that from the same classes: the table is rolled by one row, and all rows but
  the first patch go on, the class token last.
"""

from pathlib import Path

import torch
import transformers
from torch import nn

from reference_model.weights import Weights


def _decoder_names(layer: int) -> dict[str, str]:
    ours, theirs = f"blk.{layer}", f"layers.{layer}"
    names = {
        f"{ours}.attn_norm.weight": f"{theirs}.input_layernorm.weight",
        f"{ours}.ffn_norm.weight": f"{theirs}.post_attention_layernorm.weight",
        f"{ours}.attn_output.weight": f"{theirs}.self_attn.o_proj.weight",
    }
    for p in "qkv":
        for kind in ("weight", "bias"):
            names[f"{ours}.attn_{p}.{kind}"] = f"{theirs}.self_attn.{p}_proj.{kind}"
    for p in ("gate", "up", "down"):
        names[f"{ours}.ffn_{p}.weight"] = f"{theirs}.mlp.{p}_proj.weight"
    return names


def _halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head from neighbouring pairs to halves."""
    width = rows.shape[1]
    return rows.reshape(heads, -1, 2, width).transpose(1, 2).reshape(-1, width)


class HfPair:
    """A pair of GGUF files as one transformers model in float64."""

    def __init__(self, text: Path, mmproj: Path, class_token: str = "first", activation: str | None = None):
        self.text, self.tower = Weights(text), Weights(mmproj)
        self.arch = self.text.fields["general.architecture"]
        self.class_token = class_token
        self.activation = activation  # instead of the file's
        self.qwen = self.arch == "qwen2vl"
        self.clip = "v.class_embd" in self.tower
        self.model = self._qwen2vl() if self.qwen else self._llava()
        self.model = self.model.double().eval()
        state = self._decoder_state()
        state.update(self._qwen2vl_state() if self.qwen else self._llava_state())
        self._load(state)

    def _text_config(self) -> dict:
        f, a = self.text.fields, self.arch
        rope = {"rope_type": "default", "rope_theta": f[f"{a}.rope.freq_base"]}
        if self.qwen:
            rope["mrope_section"] = list(f[f"{a}.rope.dimension_sections"][:3])
        return {
            "hidden_size": f[f"{a}.embedding_length"],
            "intermediate_size": f[f"{a}.feed_forward_length"],
            "num_hidden_layers": f[f"{a}.block_count"],
            "num_attention_heads": f[f"{a}.attention.head_count"],
            "num_key_value_heads": f[f"{a}.attention.head_count_kv"],
            "rms_norm_eps": f[f"{a}.attention.layer_norm_rms_epsilon"],
            "vocab_size": len(self.text["token_embd.weight"]),
            "max_position_embeddings": f[f"{a}.context_length"],
            "rope_parameters": rope,
            "tie_word_embeddings": "output.weight" not in self.text,
        }

    def _vision(self, key: str):
        return self.tower.fields[f"clip.vision.{key}"]

    def _activation(self, key: str) -> str:
        return self.activation or self.tower.fields.get(f"clip.vision.{key}", "gelu_pytorch_tanh")

    def image_token(self) -> int:
        """The placeholder's id."""
        name = "<|image_pad|>" if self.qwen else "<image>"
        return self.text.fields["tokenizer.ggml.tokens"].index(name)

    def _llava(self):
        vision = {
            "hidden_size": self._vision("embedding_length"),
            "intermediate_size": self._vision("feed_forward_length"),
            "num_hidden_layers": self._vision("block_count"),
            "num_attention_heads": self._vision("attention.head_count"),
            "image_size": self._vision("image_size"),
            "patch_size": self._vision("patch_size"),
            "layer_norm_eps": self._vision("attention.layer_norm_epsilon"),
        }
        if self.clip:
            vision_config = transformers.CLIPVisionConfig(**vision, hidden_act="quick_gelu")
        else:
            vision_config = transformers.SiglipVisionConfig(
                **vision, hidden_act=self._activation("hidden_act"), vision_use_head=False
            )
        kinds = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}
        text = self._text_config()
        config = transformers.LlavaConfig(
            vision_config=vision_config,
            text_config=kinds[self.arch](**text),
            image_token_index=self.image_token(),
            projector_hidden_act=self._activation("projector.hidden_act"),
            vision_feature_layer=-2,
            vision_feature_select_strategy="default" if self.clip else "full",
            tie_word_embeddings=text["tie_word_embeddings"],
        )
        config._attn_implementation = "eager"
        return transformers.LlavaForConditionalGeneration(config)

    def _qwen2vl(self):
        width, mlp = self._vision("embedding_length"), self._vision("feed_forward_length")
        tokens = self.text.fields["tokenizer.ggml.tokens"]
        text = self._text_config()
        config = transformers.Qwen2VLConfig(
            text_config=text,
            vision_config={
                "depth": self._vision("block_count"),
                "embed_dim": width,
                "hidden_size": text["hidden_size"],
                "num_heads": self._vision("attention.head_count"),
                # Whole multiples of the width only: the rest is zeros.
                "mlp_ratio": -(-mlp // width),
                "patch_size": self._vision("patch_size"),
            },
            image_token_id=self.image_token(),
            video_token_id=tokens.index("<|video_pad|>"),
            vision_start_token_id=tokens.index("<|vision_start|>"),
            vision_end_token_id=tokens.index("<|vision_end|>"),
            tie_word_embeddings=text["tie_word_embeddings"],
        )
        config._attn_implementation = "eager"
        model = transformers.Qwen2VLForConditionalGeneration(config)
        model.model.visual.merger.mlp[1] = nn.GELU(approximate="tanh")
        return model

    def _decoder_state(self) -> dict[str, torch.Tensor]:
        prefix, t = "model.language_model.", self.text
        state = {
            f"{prefix}embed_tokens.weight": t["token_embd.weight"],
            f"{prefix}norm.weight": t["output_norm.weight"],
        }
        output = t.get("output.weight")
        state["lm_head.weight"] = t["token_embd.weight"] if output is None else output
        config = self._text_config()
        for layer in range(config["num_hidden_layers"]):
            for ours, theirs in _decoder_names(layer).items():
                if ours not in t:
                    continue
                value = t[ours]
                if self.arch == "llama" and ".attn_q." in ours:
                    value = _halves(value, config["num_attention_heads"])
                if self.arch == "llama" and ".attn_k." in ours:
                    value = _halves(value, config["num_key_value_heads"])
                state[prefix + theirs] = value
        return state

    def _llava_state(self) -> dict[str, torch.Tensor]:
        v, prefix = self.tower, "model.vision_tower."
        table = v["v.position_embd.weight"]
        if self.clip and self.class_token == "last":
            table = table.roll(1, 0)
        state = {
            f"{prefix}embeddings.patch_embedding.weight": v["v.patch_embd.weight"],
            f"{prefix}embeddings.position_embedding.weight": table,
        }
        if self.clip:
            state[f"{prefix}embeddings.class_embedding"] = v["v.class_embd"]
        else:
            state[f"{prefix}embeddings.patch_embedding.bias"] = v["v.patch_embd.bias"]
        parts = {
            "ln1": "layer_norm1",
            "ln2": "layer_norm2",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_out": "self_attn.out_proj",
            "ffn_up": "mlp.fc1",
            "ffn_down": "mlp.fc2",
        }
        for kind in ("weight", "bias"):
            if self.clip:
                state[f"{prefix}pre_layrnorm.{kind}"] = v[f"v.pre_ln.{kind}"]
            for layer in range(self._vision("block_count")):
                for ours, theirs in parts.items():
                    key = f"{prefix}encoder.layers.{layer}.{theirs}.{kind}"
                    state[key] = v[f"v.blk.{layer}.{ours}.{kind}"]
            for ours, theirs in (("mm.0", "linear_1"), ("mm.2", "linear_2")):
                state[f"model.multi_modal_projector.{theirs}.{kind}"] = v[f"{ours}.{kind}"]
        return state

    def _qwen2vl_state(self) -> dict[str, torch.Tensor]:
        v, prefix = self.tower, "model.visual."
        kernels = [v["v.patch_embd.weight"], v["v.patch_embd.weight.1"]]
        state = {f"{prefix}patch_embed.proj.weight": torch.stack(kernels, dim=2)}
        width = self._vision("embedding_length")
        missing = -self._vision("feed_forward_length") % width
        for kind in ("weight", "bias"):
            for layer in range(self._vision("block_count")):
                ours, theirs = f"v.blk.{layer}", f"{prefix}blocks.{layer}"
                qkv = [v[f"{ours}.attn_{p}.{kind}"] for p in "qkv"]
                up, down = v[f"{ours}.ffn_up.{kind}"], v[f"{ours}.ffn_down.{kind}"]
                rows = (0, 0, 0, missing) if kind == "weight" else (0, missing)
                state[f"{theirs}.attn.qkv.{kind}"] = torch.cat(qkv)
                state[f"{theirs}.attn.proj.{kind}"] = v[f"{ours}.attn_out.{kind}"]
                state[f"{theirs}.norm1.{kind}"] = v[f"{ours}.ln1.{kind}"]
                state[f"{theirs}.norm2.{kind}"] = v[f"{ours}.ln2.{kind}"]
                state[f"{theirs}.mlp.fc1.{kind}"] = nn.functional.pad(up, rows)
                if kind == "weight":
                    down = nn.functional.pad(down, (0, missing))
                state[f"{theirs}.mlp.fc2.{kind}"] = down
            state[f"{prefix}merger.ln_q.{kind}"] = v[f"v.post_ln.{kind}"]
            state[f"{prefix}merger.mlp.0.{kind}"] = v[f"mm.0.{kind}"]
            state[f"{prefix}merger.mlp.2.{kind}"] = v[f"mm.2.{kind}"]
        return state

    def _load(self, state: dict[str, torch.Tensor]) -> None:
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        # The final norm of a LLaVA tower follows the layer the features come from.
        missing = [m for m in missing if "post_layernorm" not in m]
        if missing or unexpected:
            raise ValueError(f"missing {missing}, unexpected {unexpected}")

    @torch.no_grad()
    def embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        """The span of a LLaVA picture without a class token, [n, width]."""
        core = self.model.model
        states = core.vision_tower(_planar(pixels), output_hidden_states=True).hidden_states[-2]
        return core.multi_modal_projector(states)[0]

    @torch.no_grad()
    def logits(self, pixels: torch.Tensor, before: list[int], after: list[int]) -> torch.Tensor:
        """Logits at every position from the last token of the span on, [1 + len(after), vocabulary]."""
        if self.qwen:
            out = self._qwen2vl_logits(pixels, before, after)
        elif self.clip and self.class_token == "last":
            out = self._class_last_logits(pixels, before, after)
        else:
            n = (self._vision("image_size") // self._vision("patch_size")) ** 2
            ids = torch.tensor([before + [self.image_token()] * n + after])
            out = self.model(input_ids=ids, pixel_values=_planar(pixels)).logits
        return out[0, -1 - len(after) :]

    def _class_last_logits(self, pixels, before, after):
        core = self.model.model
        states = core.vision_tower(_planar(pixels), output_hidden_states=True).hidden_states[-2]
        rows = torch.cat([states[:, 2:], states[:, :1]], dim=1)
        table = core.get_input_embeddings()
        text = [table(torch.tensor([ids])) for ids in (before, after)]
        embeddings = torch.cat([text[0], core.multi_modal_projector(rows), text[1]], dim=1)
        return self.model(inputs_embeds=embeddings).logits

    def _qwen2vl_logits(self, pixels, before, after):
        p = self._vision("patch_size")
        rows, columns = pixels.shape[0] // p, pixels.shape[1] // p
        blocks = pixels.double().reshape(rows // 2, 2, p, columns // 2, 2, p, 3)
        # Patches by 2x2 groups; within a patch: channel, frame, row, column.
        patches = blocks.permute(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, p * p)
        patches = patches.expand(-1, 3, 2, -1).reshape(rows * columns, -1)
        ids = before + [self.image_token()] * (rows * columns // 4) + after
        kinds = [int(i == self.image_token()) for i in ids]
        return self.model(
            input_ids=torch.tensor([ids]),
            pixel_values=patches,
            image_grid_thw=torch.tensor([[1, rows, columns]]),
            mm_token_type_ids=torch.tensor([kinds]),
        ).logits


def _planar(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.double().permute(2, 0, 1)[None]
