"""Tiny tokenizers of Qwen2 and Llama 3: byte-level BPE with the released pre-tokenizers and marks."""

import json
from pathlib import Path

from testmodels.vocabulary import CORPUS, MERGES, byte_symbols, learn_merges

# The pattern of the released Qwen2 tokenizers.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Llama 3 takes up to three digits at once.
_LLAMA3_PATTERN = _PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_LLAMA3_SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                   "<|finetune_right_pad_id|>", "<image>")
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_LLAVA = ("<image>", "<video>")


def qwen2_specials(name: str) -> tuple[str, ...]:
    return _SPECIAL + (_VISION if name == "qwen2_vl" else _LLAVA)


def _learned(specials: tuple[str, ...]) -> tuple[list[tuple[str, str]], dict[str, int], dict[str, int]]:
    """Merges, the vocabulary and the ids of `specials`, which follow it."""
    merges = learn_merges(CORPUS, MERGES)
    tokens = byte_symbols() + [a + b for a, b in merges]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return merges, vocabulary, {token: len(tokens) + i for i, token in enumerate(specials)}


def write_llama3(folder: Path) -> dict[str, int]:
    """Writes tokenizer.json and its configuration, as Llama 3.1 is released."""
    merges, vocabulary, ids = _learned(_LLAMA3_SPECIAL)
    fast = _fast(vocabulary, merges, ids, _LLAMA3_PATTERN)
    bos = "<|begin_of_text|>"
    start = {"SpecialToken": {"id": bos, "type_id": 0}}
    text = [{"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB")]
    fast["normalizer"] = None
    fast["post_processor"] = {"type": "Sequence", "processors": [
        fast["post_processor"],
        {"type": "TemplateProcessing", "single": [start, text[0]], "pair": [start, text[0], start, text[1]],
         "special_tokens": {bos: {"id": bos, "ids": [ids[bos]], "tokens": [bos]}}},
    ]}
    (folder / "tokenizer.json").write_text(json.dumps(fast, ensure_ascii=False))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(i): {"content": token, "special": True} for token, i in ids.items()},
        "bos_token": bos,
        "eos_token": "<|eot_id|>",
        "pad_token": "<|finetune_right_pad_id|>",
        "model_max_length": 4096,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return ids


def write_qwen2(folder: Path, specials: tuple[str, ...], fast: bool) -> dict[str, int]:
    """Writes the tokenizer files; `fast` chooses tokenizer.json, else vocab.json and merges.txt."""
    merges, vocabulary, ids = _learned(specials)
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


def _fast(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], ids: dict[str, int], pattern: str = _PATTERN
) -> dict:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
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
