"""The pairs of make_model.py --projector inside the classes of Hugging Face transformers, float64.

Files without a word about it have the tanh approximation of GELU in their projectors. The released configurations say
the exact one: the activations are set to it here, as in hf_models.py.
"""

import torch
import transformers
from torch import nn

from hf_models import HfPair, _planar

# Ordinary tokens that no prompt of the fixtures has.
IMAGE, BREAK, VIDEO = 300, 301, 302
SIGLIP = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj", "ln1": "layer_norm1", "ln2": "layer_norm2",
    "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
}
GEMMA_NORMS = {
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}
TANH = "gelu_pytorch_tanh"


class HfTower(HfPair):
    """A pair of GGUF files as one transformers model."""

    def __init__(self, text, mmproj):
        from reference_model.weights import Weights

        self.text, self.tower = Weights(text), Weights(mmproj)
        self.arch = self.text.fields["general.architecture"]
        self.kind = self.tower.fields["clip.projector_type"]
        self.activation, self.class_token, self.clip = None, "first", False
        self.qwen = self.arch in ("qwen2vl", "qwen3vl")
        make, state = {
            "gemma3": (self._gemma3, self._gemma3_state),
            "internvl": (self._internvl, self._internvl_state),
            "idefics3": (self._idefics3, self._idefics3_state),
            "pixtral": (self._pixtral, self._pixtral_state),
            "qwen3vl_merger": (self._qwen3vl, self._qwen3vl_state),
            "qwen2.5vl_merger": (self._qwen2_5vl, self._qwen2_5vl_state),
        }[self.kind]
        self.model = make().double().eval()
        states = self._text_state() | state()
        missing, unexpected = self.model.load_state_dict(states, strict=False)
        if missing or unexpected:
            raise ValueError(f"missing {missing}, unexpected {unexpected}")

    def _text_state(self) -> dict[str, torch.Tensor]:
        state = self._decoder_state()
        for layer in range(self.text.fields[f"{self.arch}.block_count"]):
            for part in "qk":
                norm = self.text.get(f"blk.{layer}.attn_{part}_norm.weight")
                if norm is not None:
                    state[f"model.language_model.layers.{layer}.self_attn.{part}_norm.weight"] = norm
        if self.kind == "gemma3":
            for layer in range(self.text.fields["gemma3.block_count"]):
                prefix = f"model.language_model.layers.{layer}."
                for ours, theirs in GEMMA_NORMS.items():
                    state[f"{prefix}{theirs}.weight"] = self.text[f"blk.{layer}.{ours}.weight"]
            # GGUF has the whole factor of a norm, transformers what is beyond one.
            state = {key: value - 1 if "norm" in key else value for key, value in state.items()}
        if self.kind == "idefics3":
            state = {k.replace(".language_model.", ".text_model."): v for k, v in state.items()}
        return state

    def _sizes(self) -> dict:
        return {
            "hidden_size": self._vision("embedding_length"),
            "intermediate_size": self._vision("feed_forward_length"),
            "num_hidden_layers": self._vision("block_count"),
            "num_attention_heads": self._vision("attention.head_count"),
            "image_size": self._vision("image_size"),
            "patch_size": self._vision("patch_size"),
            "layer_norm_eps": self._vision("attention.layer_norm_epsilon"),
        }

    def image_token(self) -> int:
        return IMAGE

    def _made(self, model, config):
        config._attn_implementation = "eager"
        return model(config)

    def _internvl(self):
        config = transformers.InternVLConfig(
            vision_config=transformers.InternVLVisionConfig(
                **self._sizes(), hidden_act=TANH, attention_bias=True, use_qk_norm=False
            ),
            text_config=transformers.Qwen2Config(**self._text_config()),
            image_token_id=self.image_token(),
            downsample_ratio=0.5,
            projector_hidden_act=TANH,
            tie_word_embeddings=False,
        )
        return self._made(transformers.InternVLForConditionalGeneration, config)

    def _blocks(self, prefix: str, names: dict[str, str]) -> dict[str, torch.Tensor]:
        state = {}
        for layer in range(self._vision("block_count")):
            for ours, theirs in names.items():
                for kind in ("weight", "bias"):
                    value = self.tower.get(f"v.blk.{layer}.{ours}.{kind}")
                    if value is not None:
                        state[f"{prefix}{layer}.{theirs}.{kind}"] = value
        return state

    def _named(self, names: dict[str, str]) -> dict[str, torch.Tensor]:
        """Weights and biases by our name, if there are any."""
        found = {}
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                if f"{ours}.{kind}" in self.tower:
                    found[f"{theirs}.{kind}"] = self.tower[f"{ours}.{kind}"]
        return found

    def _internvl_state(self):
        v, prefix = self.tower, "model.vision_tower."
        names = {
            "attn_q": "attention.q_proj", "attn_k": "attention.k_proj", "attn_v": "attention.v_proj",
            "attn_out": "attention.projection_layer", "ln1": "layernorm_before", "ln2": "layernorm_after",
            "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
        }
        state = self._blocks(f"{prefix}encoder.layer.", names)
        for layer in range(self._vision("block_count")):
            for part in "12":
                state[f"{prefix}encoder.layer.{layer}.lambda_{part}"] = v[f"v.blk.{layer}.ls{part}.weight"]
        state[f"{prefix}embeddings.cls_token"] = v["v.class_embd"][None, None]
        state[f"{prefix}embeddings.position_embeddings"] = v["v.position_embd.weight"][None]
        projector = "model.multi_modal_projector."
        return state | self._named({
            "v.patch_embd": f"{prefix}embeddings.patch_embeddings.projection",
            "mm.model.mlp.0": f"{projector}layer_norm",
            "mm.model.mlp.1": f"{projector}linear_1",
            "mm.model.mlp.3": f"{projector}linear_2",
        })

    def _pixtral(self):
        """Pixtral, or Mistral Small if the file has a patch merger."""
        sizes = {k: v for k, v in self._sizes().items() if k != "layer_norm_eps"}
        self.merger = "mm.patch_merger.weight" in self.tower
        make, model = (
            (transformers.Mistral3Config, transformers.Mistral3ForConditionalGeneration)
            if self.merger else (transformers.LlavaConfig, transformers.LlavaForConditionalGeneration)
        )
        more = {"spatial_merge_size": 2} if self.merger else {"vision_feature_select_strategy": "full"}
        config = make(
            vision_config=transformers.PixtralVisionConfig(**sizes, hidden_act="silu"),
            text_config=transformers.LlamaConfig(**self._text_config()),
            image_token_index=self.image_token(),
            vision_feature_layer=-1,
            projector_hidden_act=TANH,
            multimodal_projector_bias=True,
            tie_word_embeddings=False,
            **more,
        )
        made = self._made(model, config)
        # The classes have their norms' epsilon written in.
        for part in (made.model.vision_tower, made.model.multi_modal_projector):
            for module in part.modules():
                if hasattr(module, "variance_epsilon"):
                    module.variance_epsilon = self._vision("attention.layer_norm_epsilon")
        return made

    def _pixtral_state(self):
        prefix, projector = "model.vision_tower.", "model.multi_modal_projector."
        names = {
            "attn_v": "attention.v_proj", "attn_out": "attention.o_proj", "ln1": "attention_norm", "ln2": "ffn_norm",
            "ffn_gate": "feed_forward.gate_proj", "ffn_up": "feed_forward.up_proj", "ffn_down": "feed_forward.down_proj",
        }
        state = self._blocks(f"{prefix}transformer.layers.", names)
        heads = self._vision("attention.head_count")
        for layer in range(self._vision("block_count")):
            for part in "qk":
                # The file pairs neighbours, the class halves.
                weight = self.tower[f"v.blk.{layer}.attn_{part}.weight"]
                halves = weight.reshape(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
                state[f"{prefix}transformer.layers.{layer}.attention.{part}_proj.weight"] = halves
        table = self.text["token_embd.weight"].clone()
        table[BREAK] = self.tower["v.token_embd.img_break"]
        state["model.language_model.embed_tokens.weight"] = table
        state |= self._named({
            "v.patch_embd": f"{prefix}patch_conv", "v.pre_ln": f"{prefix}ln_pre",
            "mm.1": f"{projector}linear_1", "mm.2": f"{projector}linear_2", "mm.input_norm": f"{projector}norm",
            "mm.patch_merger": f"{projector}patch_merger.merging_layer",
        })
        return state

    def _gemma3(self):
        text = self._text_config()
        base = text["rope_parameters"]["rope_theta"]
        head = self.text.fields.get("gemma3.attention.key_length", text["hidden_size"] // text["num_attention_heads"])
        text |= {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": base},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
            "head_dim": head, "query_pre_attn_scalar": head, "sliding_window": self.text.fields["gemma3.attention.sliding_window"],
            "hidden_activation": TANH,
            "layer_types": [
                "full_attention" if i % 6 == 5 else "sliding_attention" for i in range(text["num_hidden_layers"])
            ],
        }
        config = transformers.Gemma3Config(
            vision_config={**self._sizes(), "hidden_act": TANH, "vision_use_head": False},
            text_config=text,
            mm_tokens_per_image=(self._vision("image_size") // self._vision("patch_size") // 2) ** 2,
            image_token_index=self.image_token(),
        )
        return self._made(transformers.Gemma3ForConditionalGeneration, config)

    def _gemma3_state(self):
        prefix = "model.vision_tower."
        if not any(key.startswith(f"{prefix}encoder") for key in self.model_keys()):
            prefix += "vision_model."
        projector = "model.multi_modal_projector."
        state = self._blocks(f"{prefix}encoder.layers.", SIGLIP) | self._named({
            "v.patch_embd": f"{prefix}embeddings.patch_embedding",
            "v.position_embd": f"{prefix}embeddings.position_embedding",
            "v.post_ln": f"{prefix}post_layernorm",
        })
        state[f"{projector}mm_input_projection_weight"] = self.tower["mm.input_projection.weight"]
        # GGUF has the whole factor, transformers what is beyond one.
        state[f"{projector}mm_soft_emb_norm.weight"] = self.tower["mm.soft_emb_norm.weight"] - 1
        return state

    def model_keys(self):
        return self.model.state_dict().keys()

    def _idefics3(self):
        config = transformers.Idefics3Config(
            vision_config={**self._sizes(), "hidden_act": TANH},
            text_config=transformers.LlamaConfig(**self._text_config()),
            image_token_id=self.image_token(),
            scale_factor=2,
            tie_word_embeddings=False,
        )
        return self._made(transformers.Idefics3ForConditionalGeneration, config)

    def _idefics3_state(self):
        prefix = "model.vision_model."
        return self._blocks(f"{prefix}encoder.layers.", SIGLIP) | self._named({
            "v.patch_embd": f"{prefix}embeddings.patch_embedding",
            "v.position_embd": f"{prefix}embeddings.position_embedding",
            "v.post_ln": f"{prefix}post_layernorm",
            "mm.model.fc": "model.connector.modality_projection.proj",
        })

    def _rope_text(self, **more) -> dict:
        text = self._text_config()
        text["rope_parameters"]["mrope_section"] = list(self.text.fields[f"{self.arch}.rope.dimension_sections"][:3])
        text["rope_parameters"].update(more)
        return text

    def _qwen_vision(self) -> dict:
        return {
            "depth": self._vision("block_count"),
            "hidden_size": self._vision("embedding_length"),
            "intermediate_size": self._vision("feed_forward_length"),
            "num_heads": self._vision("attention.head_count"),
            "patch_size": self._vision("patch_size"),
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": self.text.fields[f"{self.arch}.embedding_length"],
        }

    def _qwen3vl(self):
        layers = [i for i in range(self._vision("block_count")) if f"v.deepstack.{i}.norm.weight" in self.tower]
        text = self._rope_text(mrope_interleaved=True)
        text["head_dim"] = self.text.fields["qwen3vl.attention.key_length"]
        config = transformers.Qwen3VLConfig(
            vision_config={
                **self._qwen_vision(),
                "hidden_act": TANH,
                "num_position_embeddings": len(self.tower["v.position_embd.weight"]),
                "deepstack_visual_indexes": layers,
            },
            text_config=text,
            image_token_id=self.image_token(),
            video_token_id=VIDEO,
            tie_word_embeddings=False,
        )
        model = self._made(transformers.Qwen3VLForConditionalGeneration, config)
        visual = model.model.visual
        for merger in [visual.merger, *visual.deepstack_merger_list]:
            merger.act_fn = nn.GELU(approximate="tanh")
        return model

    def _qwen3vl_state(self):
        prefix = "model.visual."
        names = {
            "attn_qkv": "attn.qkv", "attn_out": "attn.proj", "ln1": "norm1", "ln2": "norm2",
            "ffn_up": "mlp.linear_fc1", "ffn_down": "mlp.linear_fc2",
        }
        kernels = [self.tower["v.patch_embd.weight"], self.tower["v.patch_embd.weight.1"]]
        state = self._blocks(f"{prefix}blocks.", names)
        rest = {
            "v.position_embd": f"{prefix}pos_embed", "v.post_ln": f"{prefix}merger.norm",
            "mm.0": f"{prefix}merger.linear_fc1", "mm.2": f"{prefix}merger.linear_fc2",
        }
        layers = [i for i in range(self._vision("block_count")) if f"v.deepstack.{i}.norm.weight" in self.tower]
        for at, layer in enumerate(layers):
            for ours, theirs in (("norm", "norm"), ("fc1", "linear_fc1"), ("fc2", "linear_fc2")):
                rest[f"v.deepstack.{layer}.{ours}"] = f"{prefix}deepstack_merger_list.{at}.{theirs}"
        state |= self._named(rest)
        state[f"{prefix}patch_embed.proj.weight"] = torch.stack(kernels, dim=2)
        state[f"{prefix}patch_embed.proj.bias"] = self.tower["v.patch_embd.bias"]
        return state

    def _qwen2_5vl(self):
        depth, pattern = self._vision("block_count"), self._vision("n_wa_pattern")
        config = transformers.Qwen2_5_VLConfig(
            vision_config={
                **self._qwen_vision(),
                "hidden_act": "silu",
                "window_size": 112,
                "fullatt_block_indexes": [i for i in range(depth) if (i + 1) % pattern == 0],
                "tokens_per_second": 2,
            },
            text_config=self._rope_text(),
            image_token_id=self.image_token(),
            video_token_id=VIDEO,
            tie_word_embeddings=False,
        )
        model = self._made(transformers.Qwen2_5_VLForConditionalGeneration, config)
        model.model.visual.merger.mlp[1] = nn.GELU(approximate="tanh")
        return model

    def _qwen2_5vl_state(self):
        prefix = "model.visual."
        names = {
            "attn_out": "attn.proj", "ln1": "norm1", "ln2": "norm2",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        }
        state = self._blocks(f"{prefix}blocks.", names)
        for layer in range(self._vision("block_count")):
            for kind in ("weight", "bias"):
                qkv = [self.tower[f"v.blk.{layer}.attn_{p}.{kind}"] for p in "qkv"]
                state[f"{prefix}blocks.{layer}.attn.qkv.{kind}"] = torch.cat(qkv)
        kernels = [self.tower["v.patch_embd.weight"], self.tower["v.patch_embd.weight.1"]]
        state[f"{prefix}patch_embed.proj.weight"] = torch.stack(kernels, dim=2)
        return state | self._named({
            "v.post_ln": f"{prefix}merger.ln_q", "mm.0": f"{prefix}merger.mlp.0", "mm.2": f"{prefix}merger.mlp.2",
        })

    @torch.no_grad()
    def last_logits(self, tiles: list[torch.Tensor], parts: list) -> torch.Tensor:
        """Logits after the last token. `parts` are token ids, and None for a tile; tiles are [ny, nx, 3]."""
        p, side, token = self._vision("patch_size"), 2, self.image_token()
        ids, at = [], iter(tiles)
        for part in parts:
            if part is not None:
                ids += part
                continue
            tile = next(at)
            if self.kind == "pixtral":
                p, side = self._vision("patch_size"), 2 if self.merger else 1
                line = [token] * (tile.shape[1] // p // side) + [BREAK]
                ids += (line * (tile.shape[0] // p // side))[:-1]
                continue
            ids += [token] * (tile.shape[0] // p // side * (tile.shape[1] // p // side))
        if self.kind == "pixtral":
            height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
            padded = [nn.functional.pad(_planar(t), (0, width - t.shape[1], 0, height - t.shape[0])) for t in tiles]
            sizes = torch.tensor([tile.shape[:2] for tile in tiles])
            pixels = torch.cat(padded)
            return self.model(input_ids=torch.tensor([ids]), pixel_values=pixels, image_sizes=sizes).logits[0, -1]
        if not self.qwen:
            pixels = torch.cat([_planar(tile) for tile in tiles])
            pixels = pixels[None] if self.kind == "idefics3" else pixels
            kinds = {"token_type_ids": torch.tensor([[int(i == token) for i in ids]])} if self.kind == "gemma3" else {}
            return self.model(input_ids=torch.tensor([ids]), pixel_values=pixels, **kinds).logits[0, -1]
        return self.model(
            input_ids=torch.tensor([ids]),
            pixel_values=torch.cat([self._flat(tile, tile) for tile in tiles]),
            image_grid_thw=torch.tensor([[1, tile.shape[0] // p, tile.shape[1] // p] for tile in tiles]),
            mm_token_type_ids=torch.tensor([[int(i == token) for i in ids]]),
        ).logits[0, -1]

    def _flat(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The patches of a pair of frames, 2x2 groups together: channel, frame, row, column."""
        p = self._vision("patch_size")
        rows, columns = first.shape[0] // p, first.shape[1] // p

        def frame(pixels):
            blocks = pixels.double().reshape(rows // 2, 2, p, columns // 2, 2, p, 3)
            return blocks.permute(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, p * p)

        return torch.cat([frame(first), frame(second)], dim=2).reshape(rows * columns, -1)

    @torch.no_grad()
    def video_logits(self, pairs: list[tuple], parts: list, fps: float) -> torch.Tensor:
        """Logits after a prompt with one video; `parts` are token ids, and None for each pair of frames."""
        p = self._vision("patch_size")
        rows, columns = pairs[0][0].shape[0] // p, pairs[0][0].shape[1] // p
        ids = [i for part in parts for i in (part if part is not None else [VIDEO] * (rows * columns // 4))]
        more = {"second_per_grid_ts": torch.tensor([2 / fps])} if self.kind == "qwen2.5vl_merger" else {}
        return self.model(
            input_ids=torch.tensor([ids]),
            pixel_values_videos=torch.cat([self._flat(*pair) for pair in pairs]),
            video_grid_thw=torch.tensor([[len(pairs), rows, columns]]),
            mm_token_type_ids=torch.tensor([[2 * int(i == VIDEO) for i in ids]]),
            **more,
        ).logits[0, -1]
