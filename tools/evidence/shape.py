"""Facts of a pair from `illava inspect --json`, as far as the runs depend on them."""

import json
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Layers count from 0; `vit` and `llm` are those that merge by the pair, or else by the
    paper."""
    tower_layers: int
    text_layers: int
    tokens: int     # of one view
    vit: tuple
    llm: int
    own: bool       # whether that is the pair's own recommendation


def shape_of(illava, model):
    told = subprocess.run([illava, "inspect", *model, "--json"], check=True, stdout=subprocess.PIPE)
    return from_inspection(json.loads(told.stdout))


def from_inspection(pair):
    tower, text = pair["projector"], pair["text"]
    if not (tower["can_merge"] and text["can_merge"]):
        raise SystemExit("evidence: this pair cannot merge in both halves, see `illava inspect`")
    across, down = pair["pictures"][0]["tiles"][0]
    presets = {preset["name"]: preset for preset in pair["presets"]}
    own = pair.get("recommended") is not None
    preset = presets["model"] if own else presets["paper"]
    if preset["error"]:
        raise SystemExit(f"evidence: {preset['error']}")
    return Shape(tower["layers_run"], text["layers"], across * down, tuple(preset["vit_layers"]),
                 preset["llm_layers"][0], own)
