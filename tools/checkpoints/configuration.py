"""config.json and the processors' files, with the keys that the releases have."""

import json
from pathlib import Path

from testmodels.file import CLIP_MEAN, CLIP_STD
from testmodels.shapes import Tower

from .shapes import IMAGE, Family

BICUBIC = 3


def _save(folder: Path, name: str, content: dict) -> None:
    (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def _text(family: Family, ids: dict[str, int]) -> dict:
    d = family.decoder
    return {
        "hidden_size": d.width,
        "intermediate_size": d.mlp,
        "num_hidden_layers": d.layers,
        "num_attention_heads": d.heads,
        "num_key_value_heads": d.kv_heads,
        "rms_norm_eps": d.eps,
        "rope_theta": d.rope_base,
        "max_position_embeddings": d.context,
        "vocab_size": d.vocabulary,
        "hidden_act": "silu",
        "tie_word_embeddings": d.tied,
        "bos_token_id": ids.get("<|endoftext|>", ids.get("<|begin_of_text|>", 1)),
        "eos_token_id": ids.get("<|im_end|>", ids.get("<|eot_id|>", 2)),
        **({"rope_scaling": family.rope} if family.rope else {}),
    }


def tower_config(tower: Tower) -> dict:
    siglip = tower.family == "siglip"
    return {
        "model_type": "siglip_vision_model" if siglip else "clip_vision_model",
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp,
        "num_hidden_layers": tower.stored,
        "num_attention_heads": tower.heads,
        "image_size": tower.image,
        "patch_size": tower.patch,
        "layer_norm_eps": tower.eps,
        "hidden_act": "gelu_pytorch_tanh" if siglip else "quick_gelu",
        **({"vision_use_head": False} if siglip else {"projection_dim": tower.width}),
    }


def _normalisation(family: Family) -> dict:
    siglip = family.tower.family == "siglip"
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5] * 3 if siglip else CLIP_MEAN,
        "image_std": [0.5] * 3 if siglip else CLIP_STD,
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
    }


def write_hf(folder: Path, family: Family, ids: dict[str, int]) -> None:
    """The -hf layout: one model class of transformers, with its processor."""
    if family.name == "qwen2_vl":
        return _write_qwen2vl(folder, family, ids)
    siglip = family.tower.family == "siglip"
    model = family.model
    classes = {"llava": "Llava", "llava_next": "LlavaNext", "llava_onevision": "LlavaOnevision"}
    strategy = "full" if siglip else "default"
    config = {
        "architectures": [f"{classes[model]}ForConditionalGeneration"],
        "model_type": model,
        "image_token_index": ids["<image>"],
        "projector_hidden_act": "gelu",
        "text_config": {"model_type": family.text, **_text(family, ids)},
        "vision_config": tower_config(family.tower),
        # LLaVA-OneVision is released without the block that would not be used.
        "vision_feature_layer": -1 if model == "llava_onevision" else -2,
        "vision_feature_select_strategy": strategy,
        "tie_word_embeddings": family.decoder.tied,
        "torch_dtype": "float32",
    }
    processor = {"processor_class": f"{classes[model]}Processor", "patch_size": family.tower.patch,
                 "vision_feature_select_strategy": strategy}
    picture = {"image_processor_type": f"{classes[model]}ImageProcessor", **_normalisation(family)}
    if family.pinpoints is not None:
        config["image_grid_pinpoints"] = picture["image_grid_pinpoints"] = family.pinpoints
        picture["do_pad"] = True
    if siglip and model == "llava":
        # SigLIP's own processor: squeezed into a square, neither padded nor cropped.
        picture |= {"image_processor_type": "SiglipImageProcessor", "size": {"height": IMAGE, "width": IMAGE}}
        processor["num_additional_image_tokens"] = 0
    elif siglip:
        config |= {"video_token_index": ids["<video>"], "vision_aspect_ratio": "anyres_max_9"}
        processor |= {"num_image_tokens": family.tower.tokens, "vision_aspect_ratio": "anyres_max_9"}
        picture["size"] = {"height": IMAGE, "width": IMAGE}
        video = {"video_processor_type": "LlavaOnevisionVideoProcessor", **_normalisation(family), "size": picture["size"]}
        _save(folder, "video_preprocessor_config.json", video)
    else:
        processor["num_additional_image_tokens"] = 1
        picture |= {"size": {"shortest_edge": IMAGE}, "do_center_crop": True,
                    "crop_size": {"height": IMAGE, "width": IMAGE}}
    if model == "llava" and not siglip:
        # Padding to a square, as the authors' own code does.
        picture["do_pad"] = True
    _save(folder, "config.json", config)
    _save(folder, "processor_config.json", processor)
    _save(folder, "preprocessor_config.json", picture)


def _write_qwen2vl(folder: Path, family: Family, ids: dict[str, int]) -> None:
    tower = family.tower
    # Released configurations are flat: the text model's keys stand beside the others.
    _save(folder, "config.json", {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        **_text(family, ids),
        "rope_scaling": {"type": "mrope", "mrope_section": list(family.decoder.rope_sections[:3])},
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "torch_dtype": "float32",
        "vision_config": {
            "depth": tower.stored,
            "embed_dim": tower.width,
            "hidden_size": family.decoder.width,
            "mlp_ratio": tower.mlp // tower.width,
            "num_heads": tower.heads,
            "in_chans": 3,
            "patch_size": tower.patch,
            "spatial_merge_size": 2,
            "spatial_patch_size": tower.patch,
            "temporal_patch_size": 2,
        },
    })
    shape = {"patch_size": tower.patch, "temporal_patch_size": 2, "merge_size": 2}
    _save(folder, "preprocessor_config.json", {
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor",
        **_normalisation(family), **shape, "min_pixels": 32 * 32, "max_pixels": 160 * 160,
    })
    _save(folder, "video_preprocessor_config.json", {
        "video_processor_type": "Qwen2VLVideoProcessor", "processor_class": "Qwen2VLProcessor",
        **_normalisation(family), **shape, "min_pixels": 32 * 32, "max_pixels": 96 * 96, "fps": 2.0,
        "min_frames": 4, "max_frames": 768,
    })
    _save(folder, "processor_config.json", {"processor_class": "Qwen2VLProcessor"})


def write_original(folder: Path, family: Family, ids: dict[str, int]) -> None:
    """The authors' layout: the text model's configuration, and what begins with `mm_`."""
    siglip = family.tower.family == "siglip"
    classes = {"qwen2": "LlavaQwenForCausalLM", "llama": "LlavaLlamaForCausalLM", "mistral": "LlavaMistralForCausalLM"}
    config = {
        "architectures": [classes[family.text]],
        "model_type": "llava_mistral" if family.text == "mistral" else "llava",
        **_text(family, ids),
        "mm_hidden_size": family.tower.width,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "tiny-siglip" if siglip else "tiny-clip",
        "image_aspect_ratio": "pad",
        "use_mm_proj": True,
        "torch_dtype": "float32",
    }
    if family.pinpoints is not None:
        config |= {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad",
                   "image_grid_pinpoints": family.pinpoints}
    if siglip:
        config |= {"image_aspect_ratio": "anyres_max_9", "mm_spatial_pool_mode": "bilinear",
                   "mm_newline_position": "one_token", "image_grid_pinpoints": "(1x1),...,(6x6)"}
    _save(folder, "config.json", config)
