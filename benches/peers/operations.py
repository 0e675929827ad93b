"""Floating-point operations that a shape needs, from its products and its attention; a multiply-add counts two."""

from testmodels.shapes import Decoder, Tower

from measure.schedule import PAPER_DECODER, Schedule


def encoder(tower: Tower, merged: bool = False) -> float:
    """One picture from its pixels to the projector's output.

    A layer that merges attends to all of its tokens, and its MLP sees those that are left.
    """
    tokens, width = tower.tokens, tower.width
    schedule = Schedule(tokens)
    removed = dict(schedule.steps) if merged else {}
    total = 2 * tokens * 3 * tower.patch**2 * width
    for layer in range(tower.stored - 1):
        total += 8 * tokens * width**2 + 4 * tokens**2 * width
        tokens -= removed.get(layer, 0)
        total += 4 * tokens * width * tower.mlp
    return total + 2 * tokens * tower.projector_hidden * (width + tower.output)


def prompt(decoder: Decoder, rows: int, text: int = 0, removed: int = 0) -> float:
    """`rows` of a picture and `text` rows behind it, and the logits of the last one if there is text.

    `removed` rows are gone from the merge layer of the `paper` preset on. Attention is causal: half of its pairs count.
    """
    width, keys = decoder.width, decoder.kv_heads * decoder.head_size
    total = 0
    for layer in range(decoder.layers):
        n = rows + text - (removed if layer >= PAPER_DECODER[0] else 0)
        total += 2 * n * width * (2 * width + 2 * keys + 3 * decoder.mlp) + 2 * n**2 * width
    return total + (2 * width * decoder.vocabulary if text else 0)


def weights(decoder: Decoder) -> int:
    """Weights that a step of generation reads: all matrices of the layers and the output's."""
    width, keys = decoder.width, decoder.kv_heads * decoder.head_size
    layer = width * (2 * width + 2 * keys + 3 * decoder.mlp)
    return decoder.layers * layer + width * decoder.vocabulary

