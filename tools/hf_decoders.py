"""The text models of make_model.py --decoder inside the classes of Hugging Face transformers, float64.

InternLM2 has no class there; its authors' code computes what Llama's does, from matrices packed otherwise.
"""

from importlib import import_module
from pathlib import Path

import torch
import transformers

from hf_models import _halves
from reference_model.weights import Weights

# Files of these architectures order rows of queries and keys for neighbouring pairs, transformers for halves.
NEIGHBOURS = ("granite", "internlm2", "llama", "mistral3", "smollm3")
# transformers turns neighbouring pairs, their files are in halves.
HALVES = ("glm4",)
CLASSES = {
    "ernie4_5": "Ernie4_5",
    "gemma3": "Gemma3",
    "gemma4": "Gemma4",
    "glm4": "Glm4v",
    "glm4moe": "Glm4vMoe",
    "granite": "Granite",
    "internlm2": "Llama",
    "mistral3": "Ministral3",
    "paddleocr": "PaddleOCR",
    "phi3": "Phi3",
    "qwen3": "Qwen3",
    "qwen3moe": "Qwen3Moe",
    "qwen3vl": "Qwen3VL",
    "qwen3vlmoe": "Qwen3VLMoe",
    "smollm3": "SmolLM3",
}
# Norms whose stored factor is what is beyond one.
BEYOND_ONE = ("gemma3",)


def _neighbours(rows: torch.Tensor, heads: int, rotated: int) -> torch.Tensor:
    """Rows of each head, or its elements of a bias, from halves to neighbouring pairs; those behind `rotated` stay."""
    by_head = rows.reshape(heads, -1, *rows.shape[1:])
    first = by_head[:, :rotated]
    turned = first.reshape(heads, 2, rotated // 2, *rows.shape[1:]).transpose(1, 2).reshape(first.shape)
    return torch.cat([turned, by_head[:, rotated:]], dim=1).reshape(rows.shape)


class HfDecoder:
    """A GGUF file as one transformers model without its head."""

    def __init__(self, path: Path):
        self.w = Weights(path)
        self.arch = self.w.fields["general.architecture"]
        self.width = self._key("embedding_length")
        self.layers = self._key("block_count") - self._key("nextn_predict_layers", 0)
        self.heads = self._key("attention.head_count")
        self.kv_heads = self._key("attention.head_count_kv")
        self.size = self._key("attention.key_length", self.width // self.heads)
        self.window = self._key("attention.sliding_window", 0)
        name = CLASSES[self.arch]
        parts = [f"{name}Text", name] if hasattr(transformers, f"{name}TextConfig") else [name, name]
        config_class = getattr(transformers, f"{parts[0]}Config")
        config = config_class(**self._config())
        config._attn_implementation = config._experts_implementation = "eager"
        module = import_module(config_class.__module__.replace("configuration", "modeling"))
        self.model = getattr(module, f"{parts[0]}Model")(config).double().eval()
        missing, unexpected = self.model.load_state_dict(self._state(), strict=False)
        missing = [key for key in missing if not (self.arch == "glm4" and key.endswith("_proj.bias"))]
        if missing or unexpected:
            raise ValueError(f"{self.arch}: missing {missing}, unexpected {unexpected}")
        if self.arch == "glm4":
            for key, value in self.model.state_dict().items():
                if key.endswith("_proj.bias"):
                    value.zero_()

    def _key(self, name: str, default=None):
        return self.w.fields.get(f"{self.arch}.{name}", default)

    def _windowed(self, layer: int) -> bool:
        pattern = self._key("attention.sliding_window_pattern", 0)
        if isinstance(pattern, list):
            return bool(pattern[layer])
        return self.window > 0 and layer % pattern < pattern - 1

    def _config(self) -> dict:
        rope = {"rope_type": "default", "rope_theta": self._key("rope.freq_base")}
        sections = self._key("rope.dimension_sections")
        if sections:
            rope["mrope_section"] = list(sections[:3])
        kv_heads = self.kv_heads
        config = {
            "hidden_size": self.width,
            "intermediate_size": self._key("feed_forward_length"),
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": max(kv_heads) if isinstance(kv_heads, list) else kv_heads,
            "head_dim": self.size,
            "rms_norm_eps": self._key("attention.layer_norm_rms_epsilon"),
            "vocab_size": len(self.w["token_embd.weight"]),
            "max_position_embeddings": self._key("context_length"),
            "rope_parameters": rope,
            "pad_token_id": None,
        }
        experts = {"moe_intermediate_size": self._key("expert_feed_forward_length"), "norm_topk_prob": True}
        experts["num_experts_per_tok"] = self._key("expert_used_count")
        if self.arch in ("qwen3moe", "qwen3vlmoe"):
            config |= experts | {"num_experts": self._key("expert_count")}
        if self.arch in ("qwen3vl", "qwen3vlmoe"):
            rope["mrope_interleaved"] = True
        if self.arch in ("glm4", "glm4moe"):
            rope["partial_rotary_factor"] = self._key("rope.dimension_count") / self.size
        if self.arch == "glm4moe":
            config |= experts | {
                "n_routed_experts": self._key("expert_count"),
                "routed_scaling_factor": self._key("expert_weights_scale"),
                "first_k_dense_replace": self._key("leading_dense_block_count"),
            }
        if self.arch == "granite":
            config |= {
                "embedding_multiplier": self._key("embedding_scale"),
                "residual_multiplier": self._key("residual_scale"),
                "attention_multiplier": self._key("attention.scale"),
                "logits_scaling": self._key("logit_scale"),
            }
        if self.arch == "mistral3":
            rope |= {"llama_4_scaling_beta": 0.0, "original_max_position_embeddings": self._key("context_length")}
        if self.arch in ("gemma3", "gemma4"):
            kinds = ("full_attention", "sliding_attention")
            near = {"rope_type": "default", "rope_theta": 1e4}
            config |= {
                "sliding_window": self.window,
                "layer_types": [kinds[self._windowed(layer)] for layer in range(self.layers)],
                "rope_parameters": dict(zip(kinds, (rope, near))),
            }
        if self.arch == "gemma3":
            config["query_pre_attn_scalar"] = self.size
        if self.arch == "gemma4":
            rope |= {"rope_type": "proportional", "partial_rotary_factor": 0.25}
            config |= {
                "head_dim": self._key("attention.key_length_swa"),
                "global_head_dim": self.size,
                "num_global_key_value_heads": min(kv_heads),
                "attention_k_eq_v": True,
                "hidden_size_per_layer_input": 0,
                "final_logit_softcapping": self._key("final_logit_softcapping"),
                "enable_moe_block": self._key("expert_count") is not None,
                "num_experts": self._key("expert_count"),
                "top_k_experts": self._key("expert_used_count"),
                "moe_intermediate_size": self._key("expert_feed_forward_length"),
            }
        return config

    def _state(self) -> dict[str, torch.Tensor]:
        state = {"embed_tokens.weight": self.w["token_embd.weight"], "norm.weight": self._norm("output_norm")}
        for layer in range(self.layers):
            state |= {f"layers.{layer}.{key}": value for key, value in self._layer_state(layer).items()}
        return state

    def _norm(self, name: str) -> torch.Tensor:
        return self.w[f"{name}.weight"] - (1.0 if self.arch in BEYOND_ONE else 0.0)

    def _layer_state(self, layer: int) -> dict[str, torch.Tensor]:
        block, state = f"blk.{layer}", {}
        norms = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
        if self.arch == "glm4moe":
            norms["post_attention_norm"] = "post_attention_layernorm"
        elif self.arch == "glm4":
            norms |= {"post_attention_norm": "post_self_attn_layernorm", "post_ffw_norm": "post_mlp_layernorm"}
        elif self.arch in ("gemma3", "gemma4"):
            norms |= {
                "ffn_norm": "pre_feedforward_layernorm", "post_attention_norm": "post_attention_layernorm",
                "post_ffw_norm": "post_feedforward_layernorm", "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
                "post_ffw_norm_1": "post_feedforward_layernorm_1", "post_ffw_norm_2": "post_feedforward_layernorm_2",
            }
        norms |= {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
        for ours, theirs in norms.items():
            if f"{block}.{ours}.weight" in self.w:
                state[f"{theirs}.weight"] = self._norm(f"{block}.{ours}")
        kv_heads = self.kv_heads[layer] if isinstance(self.kv_heads, list) else self.kv_heads
        for part, count in (("q", self.heads), ("k", kv_heads), ("v", kv_heads)):
            for kind in ("weight", "bias"):
                value = self.w.get(f"{block}.attn_{part}.{kind}")
                if value is None:
                    continue
                if part in "qk" and self.arch in NEIGHBOURS:
                    value = _halves(value, count)
                if part in "qk" and self.arch in HALVES:
                    value = _neighbours(value, count, self._key("rope.dimension_count"))
                state[f"self_attn.{part}_proj.{kind}"] = value
        plain = {"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "ffn_down": "mlp.down_proj"}
        fused = f"{block}.ffn_gate.weight" not in self.w
        plain |= {"ffn_up": "mlp.gate_up_proj"} if fused else {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
        plain |= {f"ffn_{part}_shexp": f"mlp.shared_experts.{part}_proj" for part in ("gate", "up", "down")}
        plain["ffn_gate_inp"] = "router.proj" if self.arch == "gemma4" else "mlp.gate"
        for ours, theirs in plain.items():
            if f"{block}.{ours}.weight" in self.w:
                state[f"{theirs}.weight"] = self.w[f"{block}.{ours}.weight"]
        if f"{block}.ffn_gate_exps.weight" in self.w:
            experts = "experts" if self.arch == "gemma4" else "mlp.experts"
            gate, up, down = (self.w[f"{block}.ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
            state[f"{experts}.gate_up_proj"], state[f"{experts}.down_proj"] = torch.cat([gate, up], dim=1), down
        named = {
            "ffn_gate_inp.scale": "router.scale", "ffn_down_exps.scale": "router.per_expert_scale",
            "exp_probs_b.bias": "mlp.gate.e_score_correction_bias", "layer_output_scale.weight": "layer_scalar",
        }
        return state | {to: self.w[f"{block}.{name}"] for name, to in named.items() if f"{block}.{name}" in self.w}

    def _masks(self, first: int, n: int, rows: int) -> dict[str, torch.Tensor]:
        """Of Gemma's two kinds of layers: a picture's rows see each other; in Gemma 4 behind a window only."""
        at = torch.arange(rows)
        causal = at[:, None] >= at
        picture = (at >= first) & (at < first + n)
        near = (causal | (picture[:, None] & picture)) & (at[:, None] - at < self.window)
        full = causal | (picture[:, None] & picture) if self.arch == "gemma3" else causal
        hidden = lambda seen: torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, float("-inf"))[None, None]
        return {"full_attention": hidden(full), "sliding_attention": hidden(near)}

    @torch.no_grad()
    def last_logits(
        self, before: list[int], span: torch.Tensor, after: list[int], positions: torch.Tensor
    ) -> torch.Tensor:
        """[vocabulary] after a prompt with one picture; `positions` [rows, 3] are (t, h, w)."""
        table, first, n = self.w["token_embd.weight"], len(before), len(span)
        texts = self.width**0.5 if self.arch in ("gemma3", "gemma4") else 1.0
        image = span[:, : self.width].double()
        rows = torch.cat([table[before] * texts, image, table[after] * texts])[None]
        more = {}
        if self.arch in ("gemma3", "gemma4"):
            more["attention_mask"] = self._masks(first, n, rows.shape[1])
        if span.shape[1] > self.width:
            mask = torch.zeros(1, rows.shape[1], dtype=torch.bool)
            mask[0, first : first + n] = True
            more["visual_pos_masks"] = mask
            more["deepstack_visual_embeds"] = list(span[:, self.width :].double().split(self.width, dim=1))
        axes = self._key("rope.dimension_sections") is not None
        ids = positions.T[:, None].long() if axes else positions[None, :, 0].long()
        out = self.model(inputs_embeds=rows, position_ids=ids, use_cache=False, **more).last_hidden_state[0, -1]
        head = self.w.get("output.weight")
        logits = (table if head is None else head) @ out / self._key("logit_scale", 1.0)
        cap = self._key("final_logit_softcapping")
        return logits if cap is None else cap * torch.tanh(logits / cap)
