#!/usr/bin/env python3
"""Expected outputs of each model family, merging off, from transformers with its own processor.

    make_family_fixtures.py [--out tests/fixtures] [--family NAME]

For every picture of family_inputs.py: the prompt's token ids, the rows of each span, the tiles' pixels (every fourth of
each). Then the next 16 greedy tokens and the logits before each of them. The checkpoints are those of
make_checkpoint.py, run as they are, in float64.

The logits are those with transformers' processor on Pillow, to the bit of which the engine resizes;
the tiles are those of its processor on torchvision, which it takes by itself and whose pixels differ
by one level here and there.

Questions are searched until each greedy choice is ahead of the second by `LEAD` standard deviations of the logits and
the tokens vary. Rounding then cannot change them.
"""

import argparse
import json
import tempfile
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers.image_processing_utils import select_best_resolution

from family_inputs import CASES, picture, question
from make_checkpoint import make_checkpoint
from seed_search import first_seed

GENERATED = 16
# A small random model often ends in one token again and again; two of them show that it moves.
DISTINCT = 2
LEAD = 0.015
SEEDS = 200
STRIDE = 4


def _rows_first(resize):
    """Pillow's resize as it was before version 13, which chooses by the sizes which pass is the first."""

    def resized(self, size, resample=None, box=None, reducing_gap=None):
        if box is None and self.width != size[0] and self.height != size[1]:
            self = resize(self, (size[0], self.height), resample)
        return resize(self, size, resample, box, reducing_gap)

    return resized


Image.Image.resize = _rows_first(Image.Image.resize)


class Model:
    """A checkpoint with its processor; `backend` is the library that resizes, transformers' own choice if none."""

    def __init__(self, family: str, folder: Path, backend: str | None = None):
        self.family = family
        self.processor = transformers.AutoProcessor.from_pretrained(folder)
        if backend is not None:
            picture = transformers.AutoImageProcessor.from_pretrained(folder, backend=backend)
            self.processor.image_processor = picture
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        ).eval()
        self.model.generation_config.eos_token_id = None
        self.visual_ids = {self.processor.image_token_id, getattr(self.processor, "video_token_id", None)}

    def inputs(self, pictures: list[np.ndarray], frames: int, text: str):
        kind = "video" if frames else "image"
        count = 1 if frames else len(pictures)
        content = [*({"type": kind} for _ in range(count)), {"type": "text", "text": text}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        if frames:
            return self.processor(videos=[np.stack(pictures)], text=[prompt], return_tensors="pt")
        images = [Image.fromarray(p) for p in pictures]
        if self.family == "llava_onevision":
            images = [images]  # the pictures of one prompt; a flat list would be one prompt each
        # A template that writes the first token itself gets no second one, as `apply_chat_template` does when it tokenises.
        bos = self.processor.tokenizer.bos_token
        added = not (bos and prompt.startswith(bos))
        return self.processor(images=images, text=[prompt], add_special_tokens=added, return_tensors="pt")

    def parts(self, ids: list[int]) -> tuple[list, list[int]]:
        """Runs of text ids, spans as null; and the length of each span."""
        parts, lengths = [], []
        for visual, run in groupby(ids, key=lambda i: i in self.visual_ids):
            run = list(run)
            parts.append(None if visual else run)
            lengths += [len(run)] if visual else []
        return parts, lengths

    def tiles(self, inputs) -> list[torch.Tensor]:
        """Each encoder input as u8 [ny, nx, 3]."""
        processor = self.processor.image_processor
        mean = torch.tensor(processor.image_mean).double()
        std = torch.tensor(processor.image_std).double()
        values = inputs.get("pixel_values", inputs.get("pixel_values_videos"))
        if self.family == "qwen2_vl":
            grids = inputs.get("image_grid_thw", inputs.get("video_grid_thw"))
            planar = []
            at = 0
            for t, h, w in grids.tolist():
                p = processor.patch_size
                block = values[at : at + t * h * w].reshape(t, h // 2, w // 2, 2, 2, 3, 2, p, p)
                at += t * h * w
                frames = block.permute(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(2 * t, h * p, w * p, 3)
                planar += list(frames if "video_grid_thw" in inputs else frames[:1])
        else:
            if values.dim() == 5 and "image_sizes" in inputs:
                # Pictures with fewer tiles are filled up with empty ones.
                several = self.family == "llava_onevision" and len(values) > 1
                counts = [1 if several else self.tile_count(size) for size in inputs["image_sizes"].tolist()]
                values = torch.cat([v[:n] for v, n in zip(values, counts)])
            planar = list(values.reshape(-1, *values.shape[-3:]).permute(0, 2, 3, 1))
        return [((v.double() * std + mean) * 255).round().clamp(0, 255).byte() for v in planar]

    def tile_count(self, size: list[int]) -> int:
        """Tiles of a picture of `size` (height, width), the whole among them."""
        side = self.model.config.vision_config.image_size
        down, across = select_best_resolution(size, self.model.config.image_grid_pinpoints)
        return 1 + (down // side) * (across // side)

    @torch.no_grad()
    def generate(self, inputs) -> tuple[torch.Tensor, list[int], float]:
        """Logits before each token [GENERATED, vocabulary], the tokens, and the smallest lead."""
        values = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        out = self.model.generate(
            **values, max_new_tokens=GENERATED, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        logits = torch.stack([step[0] for step in out.logits]).double()
        best = logits.topk(2).values
        lead = ((best[:, 0] - best[:, 1]) / logits.std(dim=1)).min()
        return logits, logits.argmax(1).tolist(), float(lead)


def case(model: Model, torchvision: Model, name: str, sizes, frames: int, tensors: dict) -> dict:
    if frames:
        pictures = [picture(*sizes[0], seed) for seed in range(frames)]
    else:
        pictures = [picture(*size, seed) for seed, size in enumerate(sizes)]

    def attempt(seed: int):
        text = question(seed)
        inputs = model.inputs(pictures, frames, text)
        logits, tokens, lead = model.generate(inputs)
        clear = lead >= LEAD and len(set(tokens)) >= DISTINCT
        return (text, inputs, logits, tokens, lead) if clear else None

    lacking = f"{model.family} {name}: no question with clear greedy choices"
    seed, (text, inputs, logits, tokens, lead) = first_seed(SEEDS, attempt, lacking)
    parts, lengths = model.parts(inputs["input_ids"][0].tolist())
    tiles = torchvision.tiles(torchvision.inputs(pictures, frames, text))
    key = f"{model.family}.{name}"
    tensors[f"{key}.logits"] = logits.float().contiguous()
    tensors[f"{key}.tiles"] = torch.cat([tile[::STRIDE, ::STRIDE].flatten() for tile in tiles]).contiguous()
    print(f"  {name}: {len(tiles)} tiles, spans {lengths}, question {seed}, lead {lead:.2f}", flush=True)
    return {
        "name": f"{key}",
        "family": model.family,
        "sizes": sizes,
        "frames": frames,
        "question": text,
        "parts": parts,
        "spans": lengths,
        "tiles": [[tile.shape[1], tile.shape[0]] for tile in tiles],
        "greedy": tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--family", choices=CASES, help="print one family's, write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors: dict[str, torch.Tensor] = {}
    entries = []
    for family in [args.family] if args.family else CASES:
        print(family, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            make_checkpoint(Path(folder), family)
            model, other = (Model(family, Path(folder), b) for b in ("pil", "torchvision"))
            entries += [case(model, other, *c, tensors) for c in CASES[family]]
    if args.family:
        return
    path = args.out / "families.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    index = {"made_by": "tools/make_family_fixtures.py", "tensors": path.name, "stride": STRIDE, "cases": entries}
    text = json.dumps(index, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (args.out / "families.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
