#!/usr/bin/env python3
"""Writes GGUF models with random weights, for tests and for speed measurements.

Test pairs (a text model and its projector, a few megabytes):
    make_model.py --out DIR --pair siglip-qwen2 --type f16

Pairs of the projectors that llama.cpp runs by its own rules (F32):
    make_model.py --out DIR --projector internvl

A text model alone, of an architecture that merges (F32):
    make_model.py --out DIR --decoder qwen3vl

Models in the true shapes of released ones (weights do not change speed):
    make_model.py --out DIR --timing qwen2-7b --type q4_0
    make_model.py --out DIR --timing siglip-so400m --type f16 --projection 3584 --family llava_onevision
    make_model.py --out DIR --timing-projector gemma3-4b --type f16 --zeros

The same arguments give the same bytes on every machine.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from testmodels.families import FAMILIES
from testmodels.file import TYPES, write_decoder, write_projector, write_tower
from testmodels.projectors import DECODERS as PROJECTOR_DECODERS
from testmodels.more_projectors import MORE
from testmodels.projectors import PROJECTORS as USUAL_PROJECTORS, TIMING_PROJECTORS
from testmodels.shapes import (
    DECODERS,
    PAIRS,
    TIMING_DECODERS,
    TIMING_TOWERS,
    padded_for_blocks,
    with_output,
)
from testmodels.vocabulary import llava15, marked, qwen2

TIMING_SEED = 100
PROJECTORS = USUAL_PROJECTORS | MORE


def _vocabulary(arch: str, size: int):
    return llava15(size) if arch == "llama" else qwen2(size)


def make_pair(out: Path, name: str, text_type: str, tower_type: str) -> list[Path]:
    """Writes `out`/text.gguf and `out`/mmproj.gguf."""
    pair = PAIRS[name]
    text, mmproj = out / "text.gguf", out / "mmproj.gguf"
    vocabulary = _vocabulary(pair.decoder.arch, pair.decoder.vocabulary)
    write_decoder(text, pair.decoder, vocabulary, text_type, pair.seed, f"{name} test model")
    write_tower(mmproj, pair.tower, tower_type, pair.seed, f"{name} test tower", family=pair.family,
                activation=pair.activation)
    return [text, mmproj]


def make_projector(out: Path, kind: str, type_name: str | None = None) -> list[Path]:
    """Writes `out`/text.gguf and `out`/mmproj.gguf of one projector type."""
    projector = PROJECTORS[kind]
    type_name = type_name or projector.type_name
    text, mmproj = out / "text.gguf", out / "mmproj.gguf"
    decoder = PROJECTOR_DECODERS[projector.text]
    write_decoder(text, decoder, marked(decoder.vocabulary, projector.marks), type_name, 6, f"{kind} test model")
    write_projector(mmproj, kind, projector, 7, type_name)
    return [text, mmproj]


def make_decoder(out: Path, shape_name: str) -> list[Path]:
    """Writes `out`/text.gguf."""
    text, shape = out / "text.gguf", DECODERS[shape_name]
    # llama.cpp looks for more tokens in a vocabulary if the model's name has phi3 in it.
    name = f"{shape_name.replace('phi3', 'phi 3')} test model"
    write_decoder(text, shape, qwen2(shape.vocabulary), "f32", 8, name)
    return [text]


def make_timing(
    out: Path, name: str, type_name: str, projection: int | None, family: str | None = None, layers: int | None = None,
    zeros: bool = False,
) -> list[Path]:
    """Writes one file, named after the shape and the type."""
    if name in TIMING_DECODERS:
        shape = TIMING_DECODERS[name]
        cut = f"-{layers}-layers" if layers is not None else ""
        shape = replace(shape, layers=layers or shape.layers)
        path = out / f"{name}{cut}-{type_name}.gguf"
        projector = TIMING_PROJECTORS.get(name)
        marks = projector.marks if projector else ()
        vocabulary = marked(shape.vocabulary, marks) if marks else _vocabulary(shape.arch, shape.vocabulary)
        write_decoder(path, shape, vocabulary, type_name, TIMING_SEED, f"{name} shape", True, zeros)
        return [path]
    tower = TIMING_TOWERS[name]
    suffix = ""
    if projection is not None:
        tower = with_output(tower, projection)
        suffix = f"-{projection}"
    if type_name in ("q8_0", "q4_0"):
        tower = padded_for_blocks(tower)
    if family is not None:
        suffix += f"-{family}"
    path = out / f"{name}{suffix}-{type_name}.gguf"
    write_tower(path, tower, type_name, TIMING_SEED, f"{name} shape", True, family)
    return [path]


def make_timing_projector(out: Path, name: str, type_name: str, layers: int | None, zeros: bool) -> list[Path]:
    """Writes one file, named after the model whose projector it is."""
    projector = TIMING_PROJECTORS[name]
    cut = f"-{layers}-layers" if layers is not None else ""
    path = out / f"mmproj-{name}{cut}-{type_name}.gguf"
    write_projector(path, name, replace(projector, blocks=layers or projector.blocks), TIMING_SEED, type_name, zeros, True)
    return [path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--pair", choices=PAIRS)
    what.add_argument("--projector", choices=PROJECTORS)
    what.add_argument("--decoder", choices=DECODERS)
    what.add_argument("--timing", choices=[*TIMING_TOWERS, *TIMING_DECODERS])
    what.add_argument("--timing-projector", choices=TIMING_PROJECTORS)
    parser.add_argument("--layers", type=int, help="of a timing model, instead of all: the time of one follows")
    parser.add_argument(
        "--zeros", action="store_true",
        help="weights of 0 in a timing text model or projector: a file with a hole, written at once",
    )
    parser.add_argument("--type", choices=TYPES, help="weights of the model: f16 if nothing is said, of a projector's pair f32")
    parser.add_argument("--tower-type", choices=TYPES, help="of a pair's tower, if not --type")
    parser.add_argument("--projection", type=int, help="width that a timing tower projects to")
    parser.add_argument("--family", choices=FAMILIES, help="make a timing tower one of this family's")
    args = parser.parse_args()
    if args.family is not None and args.timing not in TIMING_TOWERS:
        parser.error("--family goes with a --timing tower")
    if args.projection is not None and args.timing not in TIMING_TOWERS:
        parser.error("--projection goes with a --timing tower")
    if args.tower_type is not None and args.pair is None:
        parser.error("--tower-type goes with --pair")
    if args.timing in TIMING_TOWERS and args.type in ("q4_k", "q2_k"):
        parser.error("a tower's rows are not multiples of 256: use q8_0 or q4_0")
    if args.layers is not None and args.timing not in TIMING_DECODERS and args.timing_projector is None:
        parser.error("--layers goes with a --timing text model or with --timing-projector")
    projector_type, args.type = args.type, args.type or "f16"
    if args.timing_projector is not None and args.type not in ("f32", "f16"):
        parser.error("--timing-projector: its rows are no multiples of a block; use f16")
    if args.decoder is not None:
        paths = make_decoder(args.out, args.decoder)
    elif args.projector is not None:
        paths = make_projector(args.out, args.projector, projector_type)
    elif args.pair is not None:
        paths = make_pair(args.out, args.pair, args.type, args.tower_type or args.type)
    elif args.timing_projector is not None:
        paths = make_timing_projector(args.out, args.timing_projector, args.type, args.layers, args.zeros)
    else:
        paths = make_timing(args.out, args.timing, args.type, args.projection, args.family, args.layers, args.zeros)
    for path in paths:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
