"""The layout of the authors' code: the text model's configuration with keys that begin with `mm_`.

The tower is named, not described; newer releases hold its weights, LLaVA-1.5 does not.
"""

from dataclasses import replace
from pathlib import Path

import transformers

from . import towers
from .checkpoint import Checkpoint
from .model import LLAVA, NEXT, ONEVISION, Model, external_tower, split, text_of
from .output import Tensors
from .picture import original_pictures
from .problem import Problem

_CLASSES = {
    "LlavaQwenForCausalLM": ("qwen2", transformers.Qwen2Config, "qwen"),
    "LlavaLlamaForCausalLM": ("llama", transformers.LlamaConfig, "llama"),
    "LlavaMistralForCausalLM": ("llama", transformers.MistralConfig, "mistral"),
}


def _blocks(sources: dict) -> int:
    return len({name.split(".")[3] for name in sources if name.startswith("tower.encoder.layers.")})


def read(checkpoint: Checkpoint, tower: Path | None) -> Model:
    config = checkpoint.config
    named = (config.get("architectures") or ["none"])[0]
    if named not in _CLASSES:
        raise Problem(f"{checkpoint.folder}: architecture {named} is not known; {', '.join(_CLASSES)} and the layout "
                      "of transformers are")
    arch, text_class, conversation = _CLASSES[named]
    if config.get("mm_projector_type", "linear") != "mlp2x_gelu":
        raise Problem(f"{checkpoint.folder}: projector {config.get('mm_projector_type', 'linear')} is not supported; "
                      "mlp2x_gelu is")
    if config.get("mm_resampler_type") not in (None, "none"):
        raise Problem(f"{checkpoint.folder}: resampler {config['mm_resampler_type']} is not supported")
    transformers.logging.set_verbosity_error()
    try:
        text_config = text_class(**{k: v for k, v in config.items() if k not in ("model_type", "architectures")})
    except Exception as error:  # whatever a configuration can hold
        reason = str(error).strip().splitlines()
        raise Problem(f"{checkpoint.folder / 'config.json'} is no usable configuration of {named} "
                      f"({reason[0] if reason else type(error).__name__})") from None

    text_sources, vision_sources = split(checkpoint)
    vision, vision_sources = _tower(checkpoint, vision_sources, tower)
    if vision.kind == towers.SIGLIP and arch == "qwen2":
        family = ONEVISION
    else:
        family = NEXT if str(config.get("image_aspect_ratio", "")).startswith("anyres") else LLAVA
    return Model(
        family=family, original=True, text=text_of(text_config, arch), tower=vision, projector_activation="gelu",
        pictures=original_pictures(family, checkpoint, vision),
        text_tensors=Tensors(str(checkpoint.folder), text_sources),
        tower_tensors=Tensors(str(checkpoint.folder), vision_sources),
        conversation=conversation,
    )


def _tower(checkpoint: Checkpoint, sources: dict, folder: Path | None) -> tuple[towers.Tower, dict]:
    config = checkpoint.config
    name = str(config["mm_vision_tower"])
    described, external = external_tower(folder) if folder is not None else (towers.named(name), {})
    inside = _blocks(sources)
    if not inside:
        if not _blocks(external):
            raise Problem(f"{checkpoint.folder} has no weights of its image encoder: download {name} and give its "
                          "folder with --tower")
        sources = {**sources, **external}
    stored = inside or _blocks(external)
    if str(described.get("model_type", "")).startswith("siglip"):
        # The authors cut the last block off when they load the tower, so that a checkpoint of theirs lacks it.
        used = stored if inside else stored - 1
    else:
        layer = int(config.get("mm_vision_select_layer", -2))
        used = layer if layer >= 0 else int(described.get("num_hidden_layers", stored)) + 1 + layer
        if config.get("mm_vision_select_feature", "patch") != "patch":
            raise Problem(f"{checkpoint.folder}: mm_vision_select_feature {config['mm_vision_select_feature']} is not "
                          "supported: the class token does not go to the language model")
    vision = towers.tower_of({**described, "num_hidden_layers": max(stored, used)}, used)
    return replace(vision, blocks=stored), sources
