#!/usr/bin/env python3
"""Writes a tiny random-weight checkpoint as a model of its family is released.

    make_checkpoint.py --out DIR --family llava_next [--layout original] [--shards 3]

`hf` is the layout of transformers, with tokenizer, processor and chat template; `original` is that of
the authors' own code, with the tower's configuration in a folder beside it (DIR-tower). The releases
name a tower instead of describing it. The weights of both are the same numbers. CLIP and CLIPSeg have
one layout. Same arguments, same bytes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from checkpoints.bpe import qwen2_specials, write_llama3, write_qwen2
from checkpoints.configuration import tower_config, write_hf, write_original
from checkpoints.sentencepiece_model import write_llama
from checkpoints.scorer import SCORERS, write_scorer
from checkpoints.shapes import FAMILIES, Family
from checkpoints.templates import chat_template
from checkpoints.weights import checkpoint_weights

LAYOUTS = ("hf", "original")
HF_ONLY = ("qwen2_vl", "llava_llama3")


def _save_weights(folder: Path, weights: dict[str, np.ndarray], shards: int) -> None:
    if shards == 1:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return
    names = list(weights)
    index = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    total = sum(values.nbytes for values in weights.values())
    content = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=1) + "\n")


def _tokenizer(folder: Path, family: Family, original: bool) -> dict[str, int]:
    if family.tokenizer == "llama3":
        return write_llama3(folder)
    if family.text == "qwen2":
        return write_qwen2(folder, qwen2_specials(family.name), fast=not original)
    # Releases have both files; some re-uploads only the second.
    return write_llama(folder, model=original or family.text == "llama", fast=not original)


def make_checkpoint(folder: Path, name: str, layout: str = "hf", shards: int = 1) -> Path:
    """Writes the checkpoint of `FAMILIES[name]` and returns its folder."""
    family, original = FAMILIES[name], layout == "original"
    folder.mkdir(parents=True, exist_ok=True)
    ids = _tokenizer(folder, family, original)
    if original:
        write_original(folder, family, ids)
        tower = folder.with_name(folder.name + "-tower")
        tower.mkdir(exist_ok=True)
        (tower / "config.json").write_text(json.dumps(tower_config(family.tower), indent=1) + "\n")
    else:
        write_hf(folder, family, ids)
        (folder / "chat_template.jinja").write_text(chat_template(family))
    _save_weights(folder, checkpoint_weights(family, original), shards)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--family", choices=(*FAMILIES, *SCORERS), required=True)
    parser.add_argument("--layout", choices=LAYOUTS, default="hf")
    parser.add_argument("--shards", type=int, default=1, help="number of weight files")
    args = parser.parse_args()
    if args.family in SCORERS:
        write_scorer(args.out, args.family)
        return
    if args.family in HF_ONLY and args.layout == "original":
        parser.error(f"{args.family} has one layout: hf")
    make_checkpoint(args.out, args.family, args.layout, args.shards)


if __name__ == "__main__":
    main()
