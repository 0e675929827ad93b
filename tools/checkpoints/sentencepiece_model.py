"""The tiny LLaMA tokenizer: sentencepiece BPE with byte fallback, as a model and as a tokenizer.json."""

import io
import json
from pathlib import Path

import sentencepiece

from testmodels.vocabulary import CORPUS

_SIZE = 420
_ADDED = ("<image>", "<pad>")


def _train() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(part.strip() for part in CORPUS.split(".")),
        model_writer=model,
        model_type="bpe",
        vocab_size=_SIZE,
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def write_llama(folder: Path, model: bool, fast: bool) -> dict[str, int]:
    """Writes tokenizer.model, tokenizer.json or both."""
    data = _train()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
    ids = {token: len(pieces) + i for i, token in enumerate(_ADDED)}
    if model:
        (folder / "tokenizer.model").write_bytes(data)
        (folder / "added_tokens.json").write_text(json.dumps(ids))
    if fast:
        (folder / "tokenizer.json").write_text(json.dumps(_fast(pieces, ids), ensure_ascii=False))
    base = {"<unk>": 0, "<s>": 1, "</s>": 2}
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {str(i): {"content": t, "special": True} for t, i in {**base, **ids}.items()},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "legacy": False,
        "model_max_length": 4096,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return ids


def _merges(vocabulary: dict[str, int]) -> list[list[str]]:
    """Every pair of pieces that makes a piece, in the order in which sentencepiece prefers them."""
    found = []
    for piece, rank in vocabulary.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((rank, vocabulary[left], vocabulary[right], [left, right]))
    return [pair for *_, pair in sorted(found)]


def _fast(pieces: sentencepiece.SentencePieceProcessor, ids: dict[str, int]) -> dict:
    vocabulary = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    # A piece that the trainer found has the score -rank, a single character one below all of those.
    ranked = {
        piece: i for piece, i in vocabulary.items() if not (pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i))
    }
    special = {"<unk>": 0, "<s>": 1, "</s>": 2, **ids}
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for token, i in special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [start, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>",
                  "vocab": vocabulary, "merges": _merges(ranked)},
    }
