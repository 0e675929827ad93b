#!/usr/bin/env python3
"""Expected values of text-image models and of the regions they choose.

    make_scorer_fixtures.py [--out tests/fixtures]

Token ids come from transformers' CLIPTokenizer; features, logits and maps from its CLIPModel and
CLIPSegForImageSegmentation, with the checkpoints of make_checkpoint.py; regions from the float64 account in
reference_model/regions.py, frames and their rows from reference_model/film.py.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoTokenizer, CLIPModel, CLIPSegForImageSegmentation

from checkpoints.scorer import SCORERS, TEXT, write_scorer
from family_inputs import picture
from reference_model import film, regions
from testmodels.random_weights import bell

TEXTS = [
    "", "a", "a red circle", "What is in the image?", "  two   spaces\tand a\nline\r\n", "THE LARGE SQUARE",
    "isn't it? they're what I've had; I'll say he'd 'swim'", "12 shapes, 3.5 metres (about 40%)", "!!?--...", "'s 't ''d",
    "café caf\u0065\u0301 naïve", "straße ΣΑΣ İstanbul ǅ", "赤い丸は左にありますか？", "круг слева", "👩‍👩‍👧 and 🟥", "½ Ⅷ ² ٣",
    "a<|endoftext|>b", "<|startoftext|> red", "<|ENDOFTEXT|>!", "!<|EndOfText|>'s", "\u00a0\u2003thin\u200bspace", "a_b a-b #c @d",
    "which colour is the large shape on the left of the blue triangle and the green circle in the picture of the image",
    "\u0000\u0007 bell", "e\u0301\u0323 ﬁ ｆｕｌｌ", "한국어 질문", "\ud55c \u1112\u1161\u11ab", "x" * 60,
]
PROMPTS = ["a red circle on the left", "how many blue shapes?"]
SIZES = [(640, 480), (100, 333), (48, 48), (7, 5), (1, 1), (1001, 17)]


def model_values(kind: str, folder: Path, tensors: dict[str, np.ndarray]) -> dict:
    """Adds the values of one model to `tensors`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    side, seg = SCORERS[kind]["side"], kind != "clip"
    model = (CLIPSegForImageSegmentation if seg else CLIPModel).from_pretrained(folder).eval()
    clip = model.clip if seg else model
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    pictures = np.stack([picture(side, side, seed) for seed in range(5)])
    pixels = (pictures / 255 - np.array(processor["image_mean"])) / np.array(processor["image_std"])
    pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    ids = [tokenizer(text, truncation=True, max_length=TEXT["max_position_embeddings"])["input_ids"] for text in PROMPTS]
    with torch.inference_mode():
        texts = torch.cat([clip.get_text_features(torch.tensor([one])).pooler_output for one in ids])
        seen = clip.get_image_features(pixels)
        patches = clip.visual_projection(seen.last_hidden_state[:, 1:])
        unit = [x / x.norm(dim=-1, keepdim=True) for x in (texts, seen.pooler_output)]
        values = {"texts": texts, "features": seen.pooler_output, "patches": patches,
                  "logits": clip.logit_scale.exp() * unit[1] @ unit[0].T}
        if seg:
            maps = [model(input_ids=torch.tensor([one] * len(pixels)), pixel_values=pixels).logits for one in ids]
            values["maps"] = torch.stack(maps)
    tensors[f"{kind}.pictures"] = pictures
    tensors |= {f"{kind}.{name}": np.ascontiguousarray(value.numpy()) for name, value in values.items()}
    return {"kind": kind, "prompts": PROMPTS}


def smooth(seed: int, rows: int, columns: int) -> np.ndarray:
    """A map with a few hills, f32."""
    y, x = np.mgrid[:rows, :columns]
    values = np.full((rows, columns), -4.0)
    for i in range(3):
        at = (bell(seed, f"hill{i}", (4,)) * 0.25 + 0.5).clip(0, 1)
        width = 1 + 0.25 * max(rows, columns) * at[2]
        values += (3 + 4 * at[3]) * np.exp(-((x - at[0] * columns) ** 2 + (y - at[1] * rows) ** 2) / width**2)
    return values.astype(np.float32)


def maps(tensors: dict[str, np.ndarray]) -> list[dict]:
    cases = [smooth(seed, 24, 24) for seed in range(12)]
    cases += [np.full((8, 8), -3.0, np.float32), bell(1, "noise", (12, 12)), np.pad([[5.0]], ((0, 7), (7, 0)), constant_values=-9.0).astype(np.float32)]
    found = []
    for i, logits in enumerate(cases):
        width, height = SIZES[i % len(SIZES)]
        tensors[f"map.{i}"] = logits
        found.append({"map": i, "picture": [width, height], "box": regions.box(logits, width, height)})
    return found


def film_regions(tensors: dict[str, np.ndarray]) -> list[dict]:
    """Regions of frames of a tower by the patches of a text-image model, of the same size and of another."""
    found = []
    for i, (have, side) in enumerate(((24, 24), (7, 27), (24, 27), (14, 24), (4, 4), (1, 3), (16, 2))):
        pairs = -(-have // 2)
        tensors[f"similarity.{i}"] = similarity = bell(7, f"similarity{i}", (have, pairs)) * np.float32(0.1)
        for grid in ("faithful", "reference"):
            if grid == "reference" and (have % 2 or side % 2):
                continue
            case = {"similarity": i, "from": have, "side": side, "grid": grid}
            size = film.region_size(side, grid)
            found.append(case | ends(film.region(similarity, have, side, grid, size, film.SHARE)))
            for frames, details, target in ((50, 8, 2000), (1, 1, 253), (4, 3, 1)):
                size, share = film.size_within(side, grid, frames, details, target)
                found.append(case | {"budget": [frames, details, target]} | ends(film.region(similarity, have, side, grid, size, share)))
    return found


def ends(pairs: list[int]) -> dict:
    return {"first": pairs[0], "last": pairs[-1], "count": len(pairs)}


def films(tensors: dict[str, np.ndarray]) -> list[dict]:
    """Each model's pictures as a film: the frames chosen by transformers' features, and the rows of a tower of random embeddings."""
    found = []
    for kind in SCORERS:
        side = math.isqrt(tensors[f"{kind}.patches"].shape[1])
        for prompt, text in enumerate(tensors[f"{kind}.texts"]):
            cosines = film.cosine(tensors[f"{kind}.features"], text)
            patches = tensors[f"{kind}.patches"].reshape(len(cosines), side, side, -1)
            similarity = np.stack([film.cosine(film.paired(one), text) for one in patches])
            embeddings = bell(11, f"film{kind}{prompt}", (len(cosines), 9, 9, 3))
            name = f"film.{kind}.{prompt}"
            tensors |= {f"{name}.embeddings": embeddings, f"{name}.rows": film.rows(embeddings, cosines, similarity, side).astype(np.float32),
                        f"{name}.cosines": cosines.astype(np.float32)}
            found.append({"kind": kind, "prompt": PROMPTS[prompt], "tensors": name, "asked": film.asked(cosines), "even": film.even(len(cosines))})
    return found


def frames() -> list[dict]:
    cosines = [[float(x) for x in bell(9, f"frames{n}", (n,))] for n in (1, 3, 8, 50)] + [[0.5, 0.5, 0.25, 0.5]]
    return [{"cosines": one, "asked": film.asked(one), "even": film.even(len(one))} for one in cosines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "tests/fixtures")
    out = parser.parse_args().out
    tensors: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: write_scorer(Path(name) / kind, kind) for kind in SCORERS}
        tokenizer = AutoTokenizer.from_pretrained(folders["clip"])
        most = TEXT["max_position_embeddings"]
        index = {
            "texts": [{"text": text, "ids": tokenizer(text, truncation=True, max_length=most)["input_ids"]} for text in TEXTS],
            "models": [model_values(kind, folder, tensors) for kind, folder in folders.items()],
        }
    index |= {"windows": [{"picture": list(size), "windows": regions.windows(*size)} for size in SIZES],
              "maps": maps(tensors), "film_regions": film_regions(tensors), "frames": frames(), "films": films(tensors)}
    (out / "scorer.json").write_text(json.dumps(index, ensure_ascii=True, indent=1) + "\n")
    save_file(tensors, out / "scorer.safetensors")


if __name__ == "__main__":
    main()
