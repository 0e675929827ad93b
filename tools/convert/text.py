"""The language model's file: metadata and tensors as llama.cpp names them."""

import gguf
import numpy as np

from .model import Model, Text
from .output import MATRIX, TABLE, Output, Tensors
from .problem import Problem, say
from .rope import frequency_divisors, write_rope
from .vocabulary import Vocabulary

# Values compared at a time.
_CHUNK = 1 << 22


def write_metadata(writer: gguf.GGUFWriter, text: Text, vocabulary: Vocabulary) -> None:
    writer.add_context_length(text.context)
    writer.add_embedding_length(text.width)
    writer.add_block_count(text.layers)
    writer.add_feed_forward_length(text.mlp)
    writer.add_head_count(text.heads)
    writer.add_head_count_kv(text.kv_heads)
    writer.add_layer_norm_rms_eps(text.eps)
    if text.head_size * text.heads != text.width:
        writer.add_key_length(text.head_size)
        writer.add_value_length(text.head_size)
    if text.arch == "llama":
        writer.add_rope_dimension_count(text.head_size)
    write_rope(writer, text.rope, text.context)
    _write_sections(writer, text)
    writer.add_vocab_size(len(vocabulary.tokens))
    vocabulary.write(writer)


def _write_sections(writer: gguf.GGUFWriter, text: Text) -> None:
    sections = text.rope.get("mrope_section")
    if text.arch == "qwen2vl":
        if not sections or len(sections) != 3:
            raise Problem(f"mrope_section is {sections}; Qwen2-VL has three numbers there")
        writer.add_rope_dimension_sections([*map(int, sections), 0])


def outputs(model: Model) -> list[Output]:
    """All tensors in the order of the graph."""
    text, tensors = model.text, model.text_tensors
    rows = _vocabulary_rows(tensors)
    kv, q = text.kv_heads * text.head_size, text.heads * text.head_size
    bias = text.arch != "llama"
    found = [tensors.plain("token_embd.weight", "embed_tokens.weight", (rows, text.width), TABLE)]
    for i in range(text.layers):
        ours, theirs = f"blk.{i}", f"layers.{i}"

        def add(name: str, source: str, *shape: int) -> None:
            found.append(tensors.plain(f"{ours}.{name}", f"{theirs}.{source}", shape))

        add("attn_norm.weight", "input_layernorm.weight", text.width)
        for part, count in (("q", q), ("k", kv), ("v", kv)):
            name, source = f"attn_{part}", f"self_attn.{part}_proj"
            if text.arch == "llama" and part in "qk":
                found.append(_paired(tensors, f"{ours}.{name}.weight", f"{theirs}.{source}.weight",
                                     (count, text.width), text.head_size))
            else:
                add(f"{name}.weight", f"{source}.weight", count, text.width)
            if bias:
                add(f"{name}.bias", f"{source}.bias", count)
        add("attn_output.weight", "self_attn.o_proj.weight", text.width, q)
        add("ffn_norm.weight", "post_attention_layernorm.weight", text.width)
        for part in ("gate", "up"):
            add(f"ffn_{part}.weight", f"mlp.{part}_proj.weight", text.mlp, text.width)
        add("ffn_down.weight", "mlp.down_proj.weight", text.width, text.mlp)
    found.append(tensors.plain("output_norm.weight", "norm.weight", (text.width,)))
    found += _head(model, rows)
    found += frequency_divisors(text.rope, text.head_size)
    tensors.finish(ignored=["lm_head.weight"])
    return found


def _head(model: Model, rows: int) -> list[Output]:
    """The output matrix, if it is another than the table of token vectors: the files go before the configuration."""
    tensors, tied = model.text_tensors, model.text.tied
    if "lm_head.weight" not in tensors.sources:
        if not tied:
            say("the configuration says that the output has a matrix of its own, but the files have no lm_head.weight: "
                "the table of token vectors is taken")
        return []
    head = tensors.plain("output.weight", "lm_head.weight", (rows, model.text.width), MATRIX)
    if not tied:
        return [head]
    if _same(head, tensors.plain("token_embd.weight", "embed_tokens.weight", head.shape)):
        return []
    say("the configuration says that the output is the table of token vectors, but lm_head.weight differs from it: "
        "lm_head.weight is kept")
    return [head]


def _same(one: Output, other: Output) -> bool:
    step = max(_CHUNK // one.shape[1], 1)
    return all(
        np.array_equal(one.rows(start, min(start + step, one.shape[0])), other.rows(start, min(start + step, one.shape[0])))
        for start in range(0, one.shape[0], step)
    )


def _vocabulary_rows(tensors: Tensors) -> int:
    table = tensors.sources.get("embed_tokens.weight")
    if table is None:
        raise Problem(f"{tensors.where} has no language model: the table of token vectors is missing")
    return table.shape[0]


def _paired(tensors: Tensors, name: str, source: str, shape: tuple[int, int], head: int) -> Output:
    """Rows of query and key in the order of llama.cpp's llama graph.

    transformers rotates row j of a head with row j + head/2; that graph rotates neighbours.
    """
    stored = tensors.get(source, shape)

    def rows(start: int, stop: int):
        values = stored.rows(start, stop)
        return values.reshape(-1, 2, head // 2, shape[1]).swapaxes(1, 2).reshape(stop - start, shape[1])

    return Output(name, shape, MATRIX, rows, align=head)
