#!/usr/bin/env python3
"""Expected tokens and logits of converted text models, from Hugging Face transformers.

    make_text_fixtures.py [--out tests/fixtures]

Writes text.json and text.safetensors: for each family of make_checkpoint.py how its own tokenizer cuts some texts.
Then the logits after a prompt without a picture and the next sixteen greedy tokens, from the checkpoint's F32 weights
in float64. Prompts are searched until every greedy choice is clear and the tokens vary, so that rounding cannot change
them.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Iterator

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from checkpoints.shapes import FAMILIES
from make_checkpoint import make_checkpoint

TEXTS = (
    "what is in the image?",
    "Describe  the picture: a red-circle, 12 triangles.\n\nThe answer is no.",
    "naïve café — 图像里有什么 🙂\ttab",
    " leading and trailing ",
    "what's it's I'LL don't",
    "<image> and <|im_start|> as a person types them</s>",
    "\n",
    "x",
)
GENERATED, DISTINCT, LEAD, SEEDS = 16, 6, 0.05, 400


def greedy(model, prompt: list[int]) -> tuple[torch.Tensor, list[int], float]:
    """Logits after the prompt, the tokens that follow, and the smallest lead in standard deviations."""
    first, tokens, lead = None, [], float("inf")
    for _ in range(GENERATED):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0, -1]
        first = logits if first is None else first
        best, second = logits.topk(2).values.tolist()
        lead = min(lead, (best - second) / float(logits.std()))
        tokens.append(int(logits.argmax()))
        if lead < LEAD:
            break
    return first, tokens, lead


def cut_texts(checkpoint: Path) -> Iterator[dict]:
    """Each text with its tokens, as a person's text is read: marks in it are letters.

    A tokenizer.model is read by sentencepiece itself, as the authors' code does. The fast tokenizer that
    stands for one adds no space before a text that begins with one; sentencepiece does.
    """
    if (checkpoint / "tokenizer.model").is_file():
        pieces = sentencepiece.SentencePieceProcessor(str(checkpoint / "tokenizer.model"))
        for text in TEXTS:
            yield {"text": text, "ids": pieces.encode(text)}
        return
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    metaspace = "Metaspace" in (checkpoint / "tokenizer.json").read_text()
    for text in TEXTS:
        if not (metaspace and text.startswith(" ")):
            yield {"text": text, "ids": tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids}


def case(name: str) -> tuple[dict, torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder) / name, name)
        texts = list(cut_texts(checkpoint))
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=torch.float64, attn_implementation="eager"
        ).eval()
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        prompt = torch.randint(3, 300, (24,), generator=generator).tolist()
        logits, tokens, lead = greedy(model, prompt)
        if lead >= LEAD and len(set(tokens)) >= DISTINCT:
            print(f"{name}: seed {seed}, lead {lead:.2f}, {len(set(tokens))} different tokens")
            return {"family": name, "texts": texts, "prompt": prompt, "greedy": tokens}, logits.float()
    raise SystemExit(f"{name}: no prompt with clear greedy choices")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases, tensors = [], {}
    for name in FAMILIES:
        found, tensors[f"{name}.logits"] = case(name)
        cases.append(found)
    save_file(tensors, args.out / "text.safetensors")
    (args.out / "text.safetensors").chmod(0o644)
    index = {"made_by": "tools/make_text_fixtures.py", "cases": cases}
    text = json.dumps(index, separators=(",", ":"), ensure_ascii=False).replace('{"family"', '\n{"family"')
    (args.out / "text.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
