#!/usr/bin/env python3
"""Token ids of conversations under published chat templates, from Hugging Face transformers.

    make_template_fixtures.py [--out tests/fixtures]

Writes templates.json: the templates of checkpoints/published.py, and for each of them the conversations below with
their token ids, a null for each picture. Messages hold lists of parts; a template that takes strings gets the parts
joined, `<image>` and a place for each picture. A conversation that the template refuses has an `error` instead. One
that ends with an assistant message is continued (`continue_final_message`).
"""

import argparse
import json
import tempfile
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

from checkpoints.published import PUBLISHED
from make_checkpoint import make_checkpoint

IMAGE = "image"


def turn(role: str, *parts: str) -> dict:
    """`image` is a picture, every other part a text."""
    return {"role": role, "parts": list(parts)}


ASK = turn("user", IMAGE, "What is in the picture?")
BRIEF = turn("system", "Be brief.")
CONVERSATIONS = {
    "picture": [ASK],
    "system": [BRIEF, ASK],
    "text": [turn("user", "Where is the red circle?")],
    "text-system": [BRIEF, turn("user", "Where is it?")],
    "turns": [ASK, turn("assistant", "A red circle."), turn("user", "How many?")],
    "turns-system": [BRIEF, ASK, turn("assistant", "A cat."), turn("user", "Sure?"), turn("assistant", "Yes."),
                     turn("user", "Why?")],
    "pictures-first": [turn("user", IMAGE, IMAGE, "Which is larger?")],
    "between": [turn("user", "Look at", IMAGE, "and say what it is.")],
    "second-turn": [turn("user", "Hello."), turn("assistant", "Hello!"), ASK],
    "space": [turn("user", IMAGE, "  What is\n this? \n")],
    "letters": [turn("user", IMAGE, "Was ist das für ein 图像? {{ 1 + 1 }}")],
    "continued": [ASK, turn("assistant", "It shows")],
    "continued-space": [ASK, turn("assistant", "It shows ")],
    "continued-turns": [BRIEF, ASK, turn("assistant", "A cat."), turn("user", "Sure?"), turn("assistant", "Yes, be")],
    "two-in-a-row": [ASK, turn("user", "And where?")],
}


def as_parts(message: dict) -> dict:
    content = [{"type": IMAGE} if part == IMAGE else {"type": "text", "text": part} for part in message["parts"]]
    return {"role": message["role"], "content": content}


def as_text(message: dict, image: str) -> dict:
    return {"role": message["role"], "content": "".join(image if part == IMAGE else part for part in message["parts"])}


def rendered(source: str, messages: list[dict], tokenizer, image: str) -> str:
    """By the first kind of content that the template shows all of; raises the first error if there is none."""
    continued = messages[-1]["role"] == "assistant"
    words = [part.strip() for message in messages for part in message["parts"] if part != IMAGE]
    pictures = sum(part == IMAGE for message in messages for part in message["parts"])
    first = None
    for chat in ([as_parts(m) for m in messages], [as_text(m, image) for m in messages]):
        try:
            found, _ = render_jinja_template(
                [chat], chat_template=source, add_generation_prompt=not continued, continue_final_message=continued,
                bos_token=tokenizer.bos_token or "", eos_token=tokenizer.eos_token or "",
            )
        except Exception as error:  # a template raises what it likes
            first = first or error
            continue
        # A list in place of a string is printed as Python prints it.
        if all(word in found[0] for word in words) and found[0].count(image.strip()) == pictures and "'type'" not in found[0]:
            return found[0]
    raise first or ValueError("the template leaves something out")


def case(name: str, conversation: str, source: str, tokenizer, image: str, image_id: int) -> dict:
    messages = CONVERSATIONS[conversation]
    found = {"template": name, "name": conversation, "messages": messages}
    try:
        text = rendered(source, messages, tokenizer, image)
    except Exception as error:
        return found | {"error": str(error).splitlines()[0]}
    bos = tokenizer.bos_token
    # As the processors of transformers call their tokenizers.
    added = not (bos and text.startswith(bos))
    if name_of(tokenizer) == "sentencepiece":
        # The authors' code tokenises the texts around pictures apart, so that each begins with a space of the tokenizer's
        # own; transformers gives one to the first text alone.
        first, *rest = text.split(image)
        ids = tokenizer(first, add_special_tokens=added).input_ids
        for stretch in rest:
            # sentencepiece puts its space before a space, too; the fast tokenizer that stands for it does not.
            stretch = f" {stretch}" if stretch.startswith(" ") else stretch
            ids += [image_id, *(tokenizer(stretch, add_special_tokens=False).input_ids if stretch else [])]
    else:
        ids = tokenizer(text, add_special_tokens=added).input_ids
    return found | {"text": text, "ids": [None if token == image_id else token for token in ids]}


def name_of(tokenizer) -> str:
    """`sentencepiece` for BPE with byte fallback, `bytes` for byte-level BPE."""
    return "sentencepiece" if json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("byte_fallback") else "bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "tests" / "fixtures")
    args = parser.parse_args()
    templates, cases = [], []
    for name, (source, family) in PUBLISHED.items():
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = transformers.AutoTokenizer.from_pretrained(make_checkpoint(Path(folder), family))
        qwen = family == "qwen2_vl"
        mark = "<|image_pad|>" if qwen else "<image>"
        image = f"<|vision_start|>{mark}<|vision_end|>" if qwen else mark
        templates.append({"name": name, "family": family, "source": source})
        image_id = tokenizer.convert_tokens_to_ids(mark)
        made = [case(name, c, source, tokenizer, image, image_id) for c in CONVERSATIONS]
        refused = [c["name"] for c in made if "error" in c]
        print(f"{name}: {len(made) - len(refused)} conversations, refused {refused}")
        cases += made
    index = {"made_by": "tools/make_template_fixtures.py", "templates": templates, "cases": cases}
    text = json.dumps(index, separators=(",", ":"), ensure_ascii=False)
    text = text.replace('{"name"', '\n{"name"').replace('{"template"', '\n{"template"')
    (args.out / "templates.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
