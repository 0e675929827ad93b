"""Tiny checkpoints of CLIP and CLIPSeg, as transformers saves them: weights of random numbers, a real tokenizer."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from testmodels.random_weights import bell
from testmodels.vocabulary import CORPUS, byte_symbols

SEED = 41
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"
MERGES = 48
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3,
        "max_position_embeddings": 24, "hidden_act": "quick_gelu"}
VISION = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 3, "num_hidden_layers": 4, "patch_size": 8,
          "image_size": 32, "hidden_act": "quick_gelu"}
PROJECTION, REDUCED, DECODER_MLP = 24, 16, 64
# The kinds: CLIP, CLIPSeg with the two kinds of last layers. `side` is the processor's.
SCORERS = {
    "clip": {"side": 32},
    "clipseg": {"side": 48, "complex": True},
    "clipseg-simple": {"side": 32, "complex": False},
}


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Bytes, bytes at a word's end, merges learned from the corpus, and the two marks, in CLIP's order."""
    symbols = byte_symbols()
    words: Counter = Counter()
    for word in CORPUS.lower().replace("?", " ?").replace(".", " .").replace(":", " :").split():
        letters = [symbols[byte] for byte in word.encode()]
        words[(*letters[:-1], letters[-1] + SUFFIX)] += 1
    merges = []
    for _ in range(MERGES):
        pairs: Counter = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({_merged(word, best): n for word, n in words.items()})
    tokens = [*symbols, *(symbol + SUFFIX for symbol in symbols), *(a + b for a, b in merges), BEGIN, END]
    return {token: i for i, token in enumerate(tokens)}, merges


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out, i = [], 0
    while i < len(word):
        step = 2 if word[i:i + 2] == pair else 1
        out.append("".join(word[i:i + step]))
        i += step
    return tuple(out)


def _tensors(kind: str, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes, without the prefix of CLIPSeg's CLIP."""
    shapes: dict[str, tuple[int, ...]] = {"logit_scale": ()}
    for half, config in (("text_model", TEXT), ("vision_model", VISION)):
        shapes |= _blocks(f"{half}.encoder.layers", config["num_hidden_layers"], config["hidden_size"],
                          config["intermediate_size"])
    text, vision, patches = TEXT["hidden_size"], VISION["hidden_size"], (VISION["image_size"] // VISION["patch_size"]) ** 2
    shapes |= {
        "text_model.embeddings.token_embedding.weight": (vocab_size, text),
        "text_model.embeddings.position_embedding.weight": (TEXT["max_position_embeddings"], text),
        "text_projection.weight": (PROJECTION, text),
        "vision_model.embeddings.class_embedding": (vision,),
        "vision_model.embeddings.patch_embedding.weight": (vision, 3, VISION["patch_size"], VISION["patch_size"]),
        "vision_model.embeddings.position_embedding.weight": (patches + 1, vision),
        "visual_projection.weight": (PROJECTION, vision),
    }
    norms = (("text_model.final_layer_norm", text), ("vision_model.pre_layrnorm", vision),
             ("vision_model.post_layernorm", vision))
    for name, width in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    if kind == "clip":
        return shapes
    shapes = {f"clip.{name}": shape for name, shape in shapes.items()}
    shapes |= _blocks("decoder.layers", 3, REDUCED, DECODER_MLP)
    linear = [(f"reduces.{i}", vision) for i in range(3)] + [("film_mul", PROJECTION), ("film_add", PROJECTION)]
    for name, n_in in linear:
        shapes |= {f"decoder.{name}.weight": (REDUCED, n_in), f"decoder.{name}.bias": (REDUCED,)}
    patch, last = VISION["patch_size"], "decoder.transposed_convolution"
    if not SCORERS[kind]["complex"]:
        return shapes | {f"{last}.weight": (REDUCED, 1, patch, patch), f"{last}.bias": (1,)}
    side, half = patch // 4, REDUCED // 2
    return shapes | {
        f"{last}.0.weight": (REDUCED, REDUCED, 3, 3), f"{last}.0.bias": (REDUCED,),
        f"{last}.2.weight": (REDUCED, half, side, side), f"{last}.2.bias": (half,),
        f"{last}.4.weight": (half, 1, side, side), f"{last}.4.bias": (1,),
    }


def _blocks(prefix: str, count: int, width: int, mlp: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(count):
        at = f"{prefix}.{i}"
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{at}.{name}.weight": (width,), f"{at}.{name}.bias": (width,)}
        linear = [(f"self_attn.{part}_proj", width, width) for part in ("q", "k", "v", "out")]
        for name, n_out, n_in in (*linear, ("mlp.fc1", mlp, width), ("mlp.fc2", width, mlp)):
            shapes |= {f"{at}.{name}.weight": (n_out, n_in), f"{at}.{name}.bias": (n_out,)}
    return shapes


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("logit_scale"):
        return np.asarray(2.6592, np.float32)
    values = bell(SEED, name, shape)
    if "norm" in name and name.endswith("weight"):
        return values * np.float32(0.1) + np.float32(1)
    if name.endswith("bias"):
        # The map's last bias is below 0, so that most of a map shows nothing.
        return values * np.float32(0.1) - np.float32(2.5 if shape == (1,) else 0)
    if "embedding" in name:
        return values * np.float32(0.5 if "patch" not in name else 0.2)
    inputs = shape[0] if "transposed" in name and not name.endswith("0.weight") else int(np.prod(shape[1:]))
    contrast = 4 if shape[1:2] == (1,) and "transposed" in name else 1
    return values * np.float32(1.2 * contrast / np.sqrt(inputs))


def write_scorer(folder: Path, kind: str) -> Path:
    """Writes the checkpoint of `SCORERS[kind]` and returns its folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = vocabulary()
    side, seg = SCORERS[kind]["side"], kind != "clip"
    # CLIP's released configurations have 2 for the end of a text, whatever its id.
    text = TEXT | {"vocab_size": len(vocab), "bos_token_id": vocab[BEGIN], "eos_token_id": vocab[END] if seg else 2}
    config = {"model_type": "clipseg" if seg else "clip", "projection_dim": PROJECTION, "text_config": text,
              "vision_config": VISION, "logit_scale_init_value": 2.6592,
              "architectures": ["CLIPSegForImageSegmentation" if seg else "CLIPModel"]}
    if seg:
        config |= {"extract_layers": [0, 1, 3], "reduce_dim": REDUCED, "decoder_num_attention_heads": 2,
                   "decoder_intermediate_size": DECODER_MLP, "conditional_layer": 0,
                   "use_complex_transposed_convolution": SCORERS[kind]["complex"]}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    colours = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if seg else ([0.48, 0.457, 0.408], [0.268, 0.261, 0.275])
    processor = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
                 "resample": 2 if seg else 3, "image_mean": colours[0], "image_std": colours[1],
                 "size": {"height": side, "width": side} if seg else {"shortest_edge": side}}
    if not seg:
        processor |= {"do_center_crop": True, "crop_size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")
    _write_tokenizer(folder, vocab, merges, fast=seg)
    save_file({name: _values(name, shape) for name, shape in _tensors(kind, len(vocab)).items()},
              folder / "model.safetensors", {"format": "pt"})
    return folder


def _write_tokenizer(folder: Path, vocab: dict[str, int], merges: list[tuple[str, str]], fast: bool) -> None:
    """`fast` chooses tokenizer.json, else vocab.json and merges.txt."""
    config = {"tokenizer_class": "CLIPTokenizer", "bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END,
              "model_max_length": TEXT["max_position_embeddings"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    if not fast:
        (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    added = [{"id": vocab[mark], "content": mark, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for mark in (BEGIN, END)]
    model = {"type": "BPE", "dropout": None, "unk_token": END, "continuing_subword_prefix": "", "fuse_unk": False,
             "end_of_word_suffix": SUFFIX, "byte_fallback": False, "ignore_merges": False, "vocab": vocab,
             "merges": [list(pair) for pair in merges]}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
               "pre_tokenizer": level, "post_processor": None, "decoder": level, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
