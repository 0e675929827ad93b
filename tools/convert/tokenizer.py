"""Reads the tokenizer of a checkpoint: byte-level BPE (Qwen2), or sentencepiece BPE (LLaMA, Mistral, Yi)."""

from gguf import TokenType

from .checkpoint import Checkpoint
from .model import Text
from .problem import Problem
from .sentencepiece_file import from_model, from_pieces
from .vocabulary import Vocabulary

# Pre-tokenizers by the pattern of tokenizer.json, under llama.cpp's names.
_QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
_PATTERNS = {_QWEN2: "qwen2", _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|"): "llama-bpe"}
_CLASSES = {"Qwen2Tokenizer": "qwen2", "Qwen2TokenizerFast": "qwen2", "GPT2Tokenizer": "gpt-2", "GPT2TokenizerFast": "gpt-2"}
_KNOWN = "byte-level BPE as Qwen2 and GPT-2 have it and sentencepiece BPE as LLaMA has it are"


def read_vocabulary(checkpoint: Checkpoint, text: Text) -> Vocabulary:
    """The tokens with their types, and which of them begin and end a text."""
    config, fast = checkpoint.json("tokenizer_config.json"), checkpoint.json("tokenizer.json")
    vocabulary = _base(checkpoint, config, fast)
    for place, (token, special) in sorted(_added(checkpoint, config, fast).items()):
        vocabulary.put(place, token, special)
    vocabulary.mark_pieces()
    _specials(vocabulary, config | _named(checkpoint, config), text)
    first = _first_token(fast)
    default = vocabulary.model == "llama" if first is None else first == _content(config.get("bos_token"))
    vocabulary.add_bos = _flag(config, "add_bos_token", default)
    vocabulary.add_eos = _flag(config, "add_eos_token", False)
    if vocabulary.model == "llama":
        vocabulary.add_space_prefix = _flag(config, "add_prefix_space", vocabulary.add_space_prefix)
        # A tokenizer of transformers 5 is not `legacy` unless its file says so; one of the authors' day was.
        vocabulary.space_after_special = _flag(config, "legacy", "mm_vision_tower" in checkpoint.config)
    return vocabulary


def _base(checkpoint: Checkpoint, config: dict, fast: dict) -> Vocabulary:
    folder = checkpoint.folder
    if (folder / "tokenizer.model").is_file():
        return from_model(folder / "tokenizer.model")
    model = fast.get("model") or {}
    if model.get("type", "BPE") == "BPE" and model.get("vocab") and "merges" in model:
        if model.get("byte_fallback"):
            return from_pieces(model, fast)
        pre = _pre_tokenizer(fast)
        if pre is not None:
            return _byte_level(model["vocab"], model["merges"], pre)
        kind = "byte-level BPE with a pre-tokenizer of its own"
    elif model:
        kind = str(model.get("type"))
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        kind = str(config.get("tokenizer_class"))
        if kind in _CLASSES:
            lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
            merges = [line for line in lines if line.strip() and not line.startswith("#version")]
            return _byte_level(checkpoint.json("vocab.json"), merges, _CLASSES[kind])
    else:
        raise Problem(f"{folder} has no tokenizer: neither tokenizer.model nor tokenizer.json nor vocab.json with merges.txt")
    raise Problem(f"{folder}: the tokenizer ({kind}) is not known; {_KNOWN}")


def _byte_level(vocab: dict[str, int], merges: list, pre: str) -> Vocabulary:
    size = max(vocab.values()) + 1
    vocabulary = Vocabulary("gpt2", pre, [f"[PAD{i}]" for i in range(size)], [TokenType.UNUSED] * size)
    for token, place in vocab.items():
        vocabulary.tokens[place], vocabulary.types[place] = token, TokenType.NORMAL
    vocabulary.merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    return vocabulary


def _pre_tokenizer(fast: dict) -> str | None:
    """llama.cpp's name for the way text is cut before merging."""
    outer = fast.get("pre_tokenizer") or {}
    parts = outer.get("pretokenizers", [outer])
    if [part.get("type") for part in parts] == ["ByteLevel"]:
        return "gpt-2" if parts[0].get("use_regex", True) else None
    if [part.get("type") for part in parts] != ["Split", "ByteLevel"]:
        return None
    return _PATTERNS.get((parts[0].get("pattern") or {}).get("Regex"))


def _added(checkpoint: Checkpoint, config: dict, fast: dict) -> dict[int, tuple[str, bool]]:
    """Added tokens by their number, from all the files that may list them."""
    found = {int(place): (token, False) for token, place in checkpoint.json("added_tokens.json").items()}
    for entry in fast.get("added_tokens", []):
        found[int(entry["id"])] = (entry["content"], bool(entry.get("special")))
    for place, entry in config.get("added_tokens_decoder", {}).items():
        found[int(place)] = (entry["content"], bool(entry.get("special")))
    return found


def _named(checkpoint: Checkpoint, config: dict) -> dict:
    """Entries of special_tokens_map.json that the tokenizer's configuration lacks."""
    listed = checkpoint.json("special_tokens_map.json")
    return {key: value for key, value in listed.items() if config.get(key) is None and value is not None}


def _content(entry) -> str | None:
    return entry.get("content") if isinstance(entry, dict) else entry


def _specials(vocabulary: Vocabulary, config: dict, text: Text) -> None:
    places = {token: place for place, token in enumerate(vocabulary.tokens)}
    for name in ("bos", "eos", "unk", "pad"):
        token = _content(config.get(f"{name}_token"))
        if token in places:
            vocabulary.special[name] = places[token]
    if vocabulary.model == "llama" and "unk" not in vocabulary.special:
        unknown = [place for place, kind in enumerate(vocabulary.types) if kind == TokenType.UNKNOWN]
        vocabulary.special |= {"unk": unknown[0]} if unknown else {}
    for name, place in (("bos", text.bos), ("eos", text.eos)):
        if place is not None and place < len(vocabulary.tokens):
            vocabulary.special.setdefault(name, place)


def _first_token(fast: dict) -> str | None:
    """The token that a template puts before every text, if tokenizer.json has one."""
    outer = fast.get("post_processor") or {}
    for part in outer.get("processors", [outer]):
        if part.get("type") == "TemplateProcessing" and part.get("single"):
            return (part["single"][0].get("SpecialToken") or {}).get("id", "")
    return None


def _flag(config: dict, key: str, default: bool | None) -> bool | None:
    value = config.get(key)
    return value if isinstance(value, bool) else default
