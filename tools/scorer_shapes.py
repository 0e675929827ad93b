#!/usr/bin/env python3
"""Text-image models of the released shapes with random weights, and what transformers computes with them.

    scorer_shapes.py DIR [--shape clip-b32] ...

Writes DIR/NAME-F32.gguf, DIR/NAME-F16.gguf and DIR/NAME.safetensors for each shape. They are large, so they are no fixtures:
`ILLAVA_SCORER_SHAPES=DIR cargo test --release --test scorer -- --ignored` compares with them.
"""

import argparse
import json
import tempfile
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import CLIPConfig, CLIPModel, CLIPSegConfig, CLIPSegForImageSegmentation

from checkpoints.scorer import BEGIN, END, SUFFIX
from convert.scorer import convert
from family_inputs import picture
from testmodels.vocabulary import byte_symbols

_LARGE = ({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
          {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
           "patch_size": 14, "image_size": 336})
# Text tower, vision tower, values of a feature vector, pixels of the processor.
SHAPES = {
    "clip-b32": ({}, {}, 512, 224),
    "clip-l14-336": (*_LARGE, 768, 336),
    "clipseg-rd64-refined": ({}, {"patch_size": 16}, 512, 352),
}
TOKENS = 49408
IDS = [TOKENS - 2, 320, 1000, 4321, 555, TOKENS - 1]


def _model(name: str):
    text, vision, projection, _ = SHAPES[name]
    torch.manual_seed(5)
    if name.startswith("clipseg"):
        config = CLIPSegConfig(text_config=text, vision_config=vision, projection_dim=projection,
                               use_complex_transposed_convolution=True)
        return CLIPSegForImageSegmentation(config).eval()
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)).eval()


def _write(folder: Path, name: str, model) -> None:
    """A checkpoint whose tokenizer has as many merges as the released one, each of two bytes: the comparison's ids are given."""
    side, seg = SHAPES[name][3], name.startswith("clipseg")
    model.save_pretrained(folder)
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + SUFFIX for symbol in symbols)]
    merges = list(islice(product(symbols, symbols), TOKENS - 2 - len(tokens)))
    tokens += [*("".join(pair) for pair in merges), BEGIN, END]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]), encoding="utf-8")
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3, "size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor if seg else processor | {"size": {"shortest_edge": side}}))


def shape(out: Path, name: str) -> None:
    model, side = _model(name), SHAPES[name][3]
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), name, model)
        for kind in ("f32", "f16"):
            convert(Path(folder), out, name, kind)
    pixels = torch.from_numpy(((picture(side, side, 3) / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32))
    ids, seg = torch.tensor([IDS]), name.startswith("clipseg")
    clip = model.clip if seg else model
    with torch.inference_mode():
        values = {"text": clip.get_text_features(ids).pooler_output, "features": clip.get_image_features(pixels).pooler_output}
        if seg:
            values["map"] = model(input_ids=ids, pixel_values=pixels).logits
    values = {key: np.ascontiguousarray(value.numpy()) for key, value in values.items()}
    save_file(values | {"ids": np.array(IDS, np.int32), "pixels": np.ascontiguousarray(pixels.numpy())}, out / f"{name}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DIR")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="one of them (default: all)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.shape or SHAPES:
        shape(args.out, name)


if __name__ == "__main__":
    main()
