#!/usr/bin/env python3
"""Expected logits and greedy tokens, merging off, from Hugging Face transformers.

    make_hf_fixtures.py [--out tests/fixtures]

Writes hf.json and hf.safetensors: the logits at the last prompt token and the next eight greedy tokens (no
special token ends them). Each test pair has them for its F32 and its F16 file. How the two libraries are
brought to the same function is said in hf_models.py.

Prompts are searched until each greedy choice is ahead of the second by `LEAD` standard deviations of the
logits and the tokens vary. Rounding then cannot change them.

The float64 reference has to agree with transformers to 1e-6: this is the check
that the reference itself is right, and the figure is printed.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from hf_models import HfPair
from make_fixtures import pixels_of, tokens_of
from make_model import make_pair
from reference import Reference, Schedule

CASES = (
    ("siglip-qwen2", 80, 80, "last"),
    ("clip-llama", 80, 80, "last"),
    ("clip-llama", 80, 80, "first"),
    ("qwen2vl", 112, 96, "last"),
)
GENERATED = 8
DISTINCT = 5  # at least this many different ones, or the tokens show little
LEAD = 0.05
SEEDS = 200
REFERENCE_TOLERANCE = 1e-6
EXACT_TOLERANCE = 5e-6  # of tests/parity.rs for files with the exact GELU


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.norm(a - b) / torch.linalg.norm(b))


def prompt_of(model: HfPair, seed: int) -> tuple[list[int], list[int]]:
    """Random text; a Qwen2-VL picture stands between its two marks."""
    before, after = tokens_of(seed)
    if model.qwen:
        config = model.model.config
        before = before + [config.vision_start_token_id]
        after = [config.vision_end_token_id] + after
    return before, after


def greedy(model: HfPair, pixels, before, after) -> tuple[torch.Tensor, list[int], float]:
    """Logits of the last prompt token, the tokens that follow, and the smallest lead."""
    first, tokens, lead = None, [], float("inf")
    for _ in range(GENERATED):
        logits = model.logits(pixels, before, after + tokens)[-1]
        first = logits if first is None else first
        best, second = logits.topk(2).values.tolist()
        lead = min(lead, (best - second) / float(logits.std()))
        tokens.append(int(logits.argmax()))
    return first, tokens, lead


def exact_gelu(tensors: dict, entries: list) -> None:
    """A pair whose file says "gelu": close enough to tell from the tanh approximation."""
    name = "siglip-gelu"
    pixels = pixels_of(0, 80, 80)
    with tempfile.TemporaryDirectory() as folder:
        files = make_pair(Path(folder), name, "f32", "f32")
        model, other = HfPair(*files), HfPair(*files, activation="gelu_pytorch_tanh")
        before, after = next(p for p in (prompt_of(model, seed) for seed in range(SEEDS))
                             if (r := greedy(model, pixels, *p))[2] >= LEAD and len(set(r[1])) >= DISTINCT)
        logits, tokens, _ = greedy(model, pixels, before, after)
        embeddings = model.embeddings(pixels)
        off = relative(other.embeddings(pixels), embeddings)
    print(f"{name}: the tanh approximation is off by {off:.1e}")
    if off < 10 * EXACT_TOLERANCE:
        raise SystemExit("the two forms cannot be told apart")
    for key, value in (("pixels", pixels), ("logits", logits), ("embeddings", embeddings)):
        tensors[f"{name}.{key}"] = value.float().contiguous()
    entries.append(
        {
            "name": name,
            "pair": name,
            "type": "f32",
            "class_token": "none",
            "pixels": f"{name}.pixels",
            "nx": 80,
            "ny": 80,
            "before": before,
            "after": after,
            "embeddings_table": f"{name}.embeddings",
            "logits": f"{name}.logits",
            "greedy": tokens,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    tensors, entries = {}, []
    for name, nx, ny, class_token in CASES:
        pixels_key = f"{name}.pixels"
        tensors[pixels_key] = pixels = pixels_of(0, nx, ny)
        with tempfile.TemporaryDirectory() as folder:
            paths = {t: make_pair(Path(folder) / t, name, t, t) for t in ("f32", "f16")}
            models = {t: HfPair(*files, class_token) for t, files in paths.items()}
            for seed in range(SEEDS):
                before, after = prompt_of(models["f32"], seed)
                results = {t: greedy(m, pixels, before, after) for t, m in models.items()}
                same = results["f32"][1] == results["f16"][1]
                varied = len(set(results["f32"][1])) >= DISTINCT
                if same and varied and min(r[2] for r in results.values()) >= LEAD:
                    break
            else:
                raise SystemExit(f"{name}: no prompt with clear greedy choices")
            references = {
                t: Reference(*files, class_token=class_token) for t, files in paths.items()
            }
        for t, (logits, tokens, lead) in results.items():
            ours = references[t].run(pixels, before, after, Schedule()).logits
            off = relative(ours, logits)
            print(f"{name} {t}, class token {class_token}: reference off by {off:.1e}, lead {lead:.2f}")
            if off > REFERENCE_TOLERANCE:
                raise SystemExit("the reference and transformers disagree")
            key = f"{name}.{class_token}.{t}.logits"
            tensors[key] = logits.float().contiguous()
            entries.append(
                {
                    "name": f"{name}-{t}-class-{class_token}",
                    "pair": name,
                    "type": t,
                    "class_token": class_token,
                    "pixels": pixels_key,
                    "nx": nx,
                    "ny": ny,
                    "before": before,
                    "after": after,
                    "logits": key,
                    "greedy": tokens,
                }
            )
    exact_gelu(tensors, entries)
    path = args.out / "hf.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    index = {"made_by": "tools/make_hf_fixtures.py", "tensors": path.name, "cases": entries}
    text = json.dumps(index, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (args.out / "hf.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
