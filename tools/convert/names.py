"""One name for a tensor, whatever layout it comes in.

| release | token table | tower | projector |
|---|---|---|---|
| -hf (LLaVA) | language_model.model.embed_tokens | vision_tower.vision_model.* | multi_modal_projector.linear_1 |
| -hf, saved again | model.language_model.embed_tokens | model.vision_tower.* | model.multi_modal_projector.linear_1 |
| original | model.embed_tokens | model.vision_tower.vision_tower.vision_model.* | model.mm_projector.0 |
| Qwen2-VL | model.embed_tokens | visual.* | visual.merger.mlp.0 |
"""

import re

# `module.` is from DistributedDataParallel, `_orig_mod.` from torch.compile, `base_model.model.` from PEFT.
_PREFIX = re.compile(r"^(module\.|_orig_mod\.|base_model\.model\.|model\.|language_model\.)+")
_TOWER = re.compile(r"^(vision_tower\.)+(vision_model\.)?|^visual\.|^vision_model\.")
_PROJECTOR = re.compile(r"^multi_modal_projector\.linear_([12])\.|^mm_projector\.(\d+)\.")
# Buffers, and parts of a tower behind the layer whose output is taken.
_UNUSED = re.compile(r"rotary_emb\.inv_freq$|position_ids$|^tower\.(post_layernorm|head)\.")
# A tower's own folder may hold the text model it was trained with.
_TEXT_TWIN = re.compile(r"^(text_model\.|logit_scale|logit_bias|visual_projection|text_projection)")


def canonical(name: str) -> str | None:
    """`embed_tokens.weight`, `layers.N...`, `norm.weight`, `lm_head.weight`, `tower...`,
    `projector.{0,2}...` or `newline`; None for what no model here uses."""
    name = _PREFIX.sub("", name)
    if _TEXT_TWIN.match(name):
        return None
    if match := _PROJECTOR.match(name):
        number = 2 * (int(match[1]) - 1) if match[1] else int(match[2])
        name = f"projector.{number}.{name[match.end():]}"
    elif name == "image_newline":
        name = "newline"
    else:
        name = _TOWER.sub("tower.", name)
    return None if _UNUSED.search(name) else name


def tower_only(name: str) -> str | None:
    """As `canonical`, for a folder that holds nothing but an image encoder."""
    name = canonical(name)
    if name is None or name.startswith("tower."):
        return name
    name = f"tower.{name}"
    return None if _UNUSED.search(name) else name
