"""Projector files that hand the tower's own rows out of the engine, so that the tower can be measured without a decoder.

`rows`: the projector is an identity, so that the embeddings are the rows behind the last norm. Its activation, a GELU,
changes nothing of what stands far above 0: 64 is added before it and taken off behind it.

`class_token`: the engine keeps the class token to itself. A thirteenth block puts it into every row: each row attends
to the class token alone and takes its value 32,768 times, beside which what the row was vanishes. A linear function of
their rows, found by least squares, tells the class token from patches; its margin is checked.

What is added to the tower is stored in f32. Kernels round the activations of an f16 matrix that bf16 holds, as an identity
is, to 8 bits, and 64 and a row would leave the row two or three of them.
"""

from pathlib import Path

import numpy as np

from .export import TEXT_WIDTH, write_projector
from .tower import HEADS, LAYERS, WIDTH

_SHIFT, _GAIN = 64.0, 32768.0
# Logits between the class token and any patch; sizes in attention shift them by less than log(729).
_APART = 400.0


def identity() -> dict[str, np.ndarray]:
    """A projector that passes rows on: the first 384 columns are the row, the others 0."""
    return {
        "mm.0.weight": np.eye(WIDTH),
        "mm.0.bias": np.full(WIDTH, _SHIFT),
        "mm.2.weight": np.eye(TEXT_WIDTH, WIDTH),
        "mm.2.bias": np.where(np.arange(TEXT_WIDTH) < WIDTH, -_SHIFT, 0.0),
    }


def write_rows(path: Path, tensors: dict[str, np.ndarray], side: int) -> None:
    """Writes the tower whose embeddings are its rows behind the last norm."""
    passing = identity()
    write_projector(path, tensors, passing, side, exact=passing)


def telling(first: np.ndarray, patches: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of a function that is about 1 at class tokens [n, 384] and 0 at patches [m, 384].

    Both are normed rows. Raises if some patch comes within 0.2 of some class token.
    """
    rows = np.concatenate([np.repeat(first, max(1, len(patches) // len(first)), 0), patches])
    wanted = np.concatenate([np.ones(len(rows) - len(patches)), np.zeros(len(patches))])
    extended = np.concatenate([rows, np.ones((len(rows), 1))], 1)
    found = np.linalg.solve(extended.T @ extended + 1e-3 * len(rows) * np.eye(WIDTH + 1), extended.T @ wanted)
    weights, bias = found[:-1], found[-1]
    margin = (first @ weights).min() - (patches @ weights).max()
    if margin < 0.2:
        raise ValueError(f"class tokens stand {margin:.2f} apart from patches, 0.2 is needed")
    return weights, float(bias)


def write_class_token(path: Path, tensors: dict[str, np.ndarray], side: int, first: np.ndarray, patches: np.ndarray) -> None:
    """Writes the tower whose embeddings are the class token behind the last norm, once for each row.

    `first` and `patches` are rows behind the last block, normed without weights: what the function is found from.
    """
    weights, bias = telling(first, patches)
    block = f"v.blk.{LAYERS}."
    head = WIDTH // HEADS
    own = dict(tensors)
    for norm in ("ln1", "ln2"):
        own[f"{block}{norm}.weight"], own[f"{block}{norm}.bias"] = np.ones(WIDTH), np.zeros(WIDTH)
    one = np.zeros(WIDTH)
    one[::head] = 1
    own[f"{block}attn_q.weight"], own[f"{block}attn_q.bias"] = np.zeros((WIDTH, WIDTH)), one * np.sqrt(head)
    scale = _APART / 0.2
    own[f"{block}attn_k.weight"], own[f"{block}attn_k.bias"] = scale * np.outer(one, weights), scale * bias * one
    own[f"{block}attn_v.weight"], own[f"{block}attn_v.bias"] = np.eye(WIDTH), np.zeros(WIDTH)
    own[f"{block}attn_out.weight"], own[f"{block}attn_out.bias"] = _GAIN * np.eye(WIDTH), np.zeros(WIDTH)
    own[f"{block}ffn_up.weight"], own[f"{block}ffn_up.bias"] = np.zeros((4 * WIDTH, WIDTH)), np.zeros(4 * WIDTH)
    own[f"{block}ffn_down.weight"], own[f"{block}ffn_down.bias"] = np.zeros((WIDTH, 4 * WIDTH)), np.zeros(WIDTH)
    passing = identity()
    write_projector(path, own, passing, side, LAYERS + 1, exact=(own.keys() - tensors.keys()) | passing.keys())
