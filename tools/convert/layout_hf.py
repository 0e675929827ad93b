"""The layout of transformers: one configuration with a part for text and one for vision.

Released configurations leave out what equals the defaults of their classes, so that those classes
read them.
"""

from dataclasses import replace
from pathlib import Path

import transformers

from .checkpoint import Checkpoint
from .model import LLAVA, NEXT, ONEVISION, QWEN2VL as QWEN2VL_FAMILY, Model, split, text_of
from .output import Tensors
from .picture import hf_pictures
from .processor import check_size, image_processor, normalisation
from .problem import Problem
from .towers import QWEN2VL, Tower, activation_of, tower_of

_PROJECTOR_ACTIVATIONS = ("gelu", "gelu_pytorch_tanh")
_TEXT = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
_FAMILIES = (LLAVA, NEXT, ONEVISION, QWEN2VL_FAMILY)


def read(checkpoint: Checkpoint, tower: Path | None) -> Model:
    family = checkpoint.config.get("model_type")
    if family not in _FAMILIES:
        raise Problem(f"{checkpoint.folder}: architecture {family} is not known; {', '.join(_FAMILIES)} and the "
                      "original LLaVA layouts are")
    if tower is not None:
        raise Problem("--tower goes with the original layout: this checkpoint has its own image encoder")
    transformers.logging.set_verbosity_error()
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # whatever a configuration can hold
        reason = str(error).strip().splitlines()
        raise Problem(f"{checkpoint.folder / 'config.json'} is no usable configuration of {family} "
                      f"({reason[0] if reason else type(error).__name__})") from None
    text_sources, vision_sources = split(checkpoint)
    processor = image_processor(checkpoint)
    kind = config.text_config.model_type
    if family == QWEN2VL_FAMILY:
        arch, vision, activation = "qwen2vl", _qwen2vl_tower(config, processor), "gelu"
    else:
        arch = _TEXT.get(kind)
        if arch is None:
            raise Problem(f"{checkpoint.folder}: the language model {kind} is not known; {', '.join(_TEXT)} are")
        vision, activation = _tower(config, processor), config.projector_hidden_act
        if activation not in _PROJECTOR_ACTIVATIONS:
            raise Problem(f"{checkpoint.folder}: projector_hidden_act {activation} is not supported; "
                          f"{', '.join(_PROJECTOR_ACTIVATIONS)} are")
    text = text_of(config.text_config, arch)
    if config.tie_word_embeddings:
        text = replace(text, tied=True)
    return Model(
        family=family, original=False, text=text, tower=vision, projector_activation=activation,
        pictures=hf_pictures(family, checkpoint, config, processor, vision),
        text_tensors=Tensors(str(checkpoint.folder), text_sources),
        tower_tensors=Tensors(str(checkpoint.folder), vision_sources),
        conversation={"mistral": "mistral", "qwen2": "qwen", "qwen2_vl_text": "qwen2vl"}.get(kind, "llama"),
    )


def _tower(config, processor: dict) -> Tower:
    vision = config.vision_config.to_dict()
    layer, blocks = config.vision_feature_layer, config.vision_config.num_hidden_layers
    if not isinstance(layer, int):
        raise Problem(f"features of several layers ({layer}) are not supported; LLaVA's projector takes those of one")
    siglip = str(vision.get("model_type", "")).startswith("siglip")
    strategy = config.vision_feature_select_strategy
    if strategy != ("full" if siglip else "default"):
        raise Problem(f"vision_feature_select_strategy {strategy} is not supported for this image encoder: "
                      "the class token does not go to the language model")
    # hidden_states[0] is the input of the first block, hidden_states[n] the output of block n - 1.
    used = layer if layer >= 0 else blocks + 1 + layer
    tower = tower_of(vision, used, *normalisation(processor))
    check_size(processor, tower.image)
    return tower


def _qwen2vl_tower(config, processor: dict) -> Tower:
    vision = config.vision_config
    for key, value in (("spatial_merge_size", 2), ("temporal_patch_size", 2)):
        if getattr(vision, key) != value:
            raise Problem(f"{key} {getattr(vision, key)} is not supported; Qwen2-VL has {value}")
    mean, std = normalisation(processor)
    # Rotary positions know no size: 560 is what llama.cpp's own pairs say.
    return Tower(QWEN2VL, image=560, patch=vision.patch_size, width=vision.embed_dim, heads=vision.num_heads,
                 mlp=int(vision.embed_dim * vision.mlp_ratio), blocks=vision.depth, used=vision.depth, eps=1e-6,
                 activation=activation_of(vision.hidden_act), mean=mean, std=std)
