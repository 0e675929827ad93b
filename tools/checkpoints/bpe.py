"""The tiny Qwen2 tokenizer: byte-level BPE with the released pre-tokenizer and marks."""

import json
from pathlib import Path

from testmodels.vocabulary import CORPUS, MERGES, byte_symbols, learn_merges

# The pattern of the released Qwen2 tokenizers.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_LLAVA = ("<image>", "<video>")


def qwen2_specials(name: str) -> tuple[str, ...]:
    return _SPECIAL + (_VISION if name == "qwen2_vl" else _LLAVA)


def write_qwen2(folder: Path, specials: tuple[str, ...], fast: bool) -> dict[str, int]:
    """Writes the tokenizer files; `fast` chooses tokenizer.json, else vocab.json and merges.txt."""
    merges = learn_merges(CORPUS, MERGES)
    tokens = byte_symbols() + [a + b for a, b in merges]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    ids = {token: len(tokens) + i for i, token in enumerate(specials)}
    if fast:
        (folder / "tokenizer.json").write_text(json.dumps(_fast(vocabulary, merges, ids), ensure_ascii=False))
    else:
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n")
        (folder / "added_tokens.json").write_text(json.dumps(ids))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "added_tokens_decoder": {str(i): {"content": token, "special": True} for token, i in ids.items()},
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 4096,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return ids


def _fast(vocabulary: dict[str, int], merges: list[tuple[str, str]], ids: dict[str, int]) -> dict:
    split = {"type": "Split", "pattern": {"Regex": _PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for token, i in ids.items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "byte_fallback": False, "ignore_merges": False, "unk_token": None,
                  "vocab": vocabulary, "merges": [list(pair) for pair in merges]},
    }
