"""sentencepiece vocabularies: from tokenizer.model, or from a tokenizer.json made of one."""

import re
from pathlib import Path

import sentencepiece
from gguf import TokenType

from .problem import Problem
from .vocabulary import ADDED_SCORE, Vocabulary

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "▁"


def from_model(path: Path) -> Vocabulary:
    pieces = sentencepiece.SentencePieceProcessor()
    try:
        pieces.Load(str(path))
    except Exception:  # the library raises what its C++ side throws
        raise Problem(f"{path} is no sentencepiece model, or a damaged one; download it again") from None
    size = len(pieces)
    if not any(pieces.is_byte(i) for i in range(size)):
        raise Problem(f"{path}: the tokenizer (sentencepiece without byte pieces) is not known; LLaMA's kind is")
    # A unigram model's scores are logarithms of probabilities, those of BPE are ranks.
    ranks = [pieces.get_score(i) for i in range(size) if not pieces.is_byte(i)]
    if any(rank != int(rank) for rank in ranks):
        raise Problem(f"{path}: the tokenizer (sentencepiece unigram) is not known; LLaMA's BPE is")
    vocabulary = Vocabulary(
        "llama", "default", [pieces.id_to_piece(i) for i in range(size)], [_type(pieces, i) for i in range(size)],
        scores=[pieces.get_score(i) for i in range(size)],
    )
    # The model's own setting is in a part that the library does not show; what it does shows it.
    vocabulary.add_space_prefix = bool(pieces.encode("a", out_type=str)[0].startswith(_SPACE))
    return vocabulary


def _type(pieces: sentencepiece.SentencePieceProcessor, place: int) -> TokenType:
    if pieces.is_unknown(place):
        return TokenType.UNKNOWN
    if pieces.is_control(place):
        return TokenType.CONTROL
    if pieces.is_byte(place):
        return TokenType.BYTE
    return TokenType.UNUSED if pieces.is_unused(place) else TokenType.NORMAL


def from_pieces(model: dict, fast: dict) -> Vocabulary:
    """From the `model` of a tokenizer.json: BPE with byte fallback.

    It lists pairs in the order in which they merge; a sentencepiece model scores pieces. The score of a piece is
    therefore minus the rank of the first pair that makes it.
    """
    tokens = [""] * (max(model["vocab"].values()) + 1)
    for token, place in model["vocab"].items():
        tokens[place] = token
    ranks: dict[str, int] = {}
    for pair in model["merges"]:
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        ranks.setdefault(left + right, len(ranks))
    types, scores = [], []
    for place, token in enumerate(tokens):
        byte = _BYTE.fullmatch(token)
        if not token:
            tokens[place] = f"[PAD{place}]"
            types.append(TokenType.UNUSED)
        elif token == model.get("unk_token", "<unk>"):
            types.append(TokenType.UNKNOWN)
        else:
            types.append(TokenType.BYTE if byte else TokenType.NORMAL)
        # Single characters merge nothing; below all that merging makes, as sentencepiece has them.
        single = 0.0 if byte or types[-1] == TokenType.UNKNOWN else -float(len(ranks))
        scores.append(-float(ranks[token]) if token in ranks else single if types[-1] != TokenType.UNUSED else ADDED_SCORE)
    return Vocabulary("llama", "default", tokens, types, scores=scores, add_space_prefix=_prepends(fast))


def _prepends(fast: dict) -> bool:
    """Whether a text gets a space before its first letter."""
    normalizer, cutter = fast.get("normalizer") or {}, fast.get("pre_tokenizer") or {}
    if any(part.get("type") == "Prepend" for part in normalizer.get("normalizers", [normalizer])):
        return True
    return any(
        part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never"
        for part in cutter.get("pretokenizers", [cutter])
    )
