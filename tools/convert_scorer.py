#!/usr/bin/env python3
"""Turns a Hugging Face checkpoint folder of CLIP or CLIPSeg into one GGUF file for --crop-model.

    convert_scorer.py FOLDER --out DIR [--type f16]

Writes DIR/NAME-TYPE.gguf with both towers, the tokenizer, and CLIPSeg's decoder if the checkpoint has one. Read
docs/crops.md for what the program does with it.
"""

import argparse
import sys
from pathlib import Path

try:
    from convert.problem import Problem
    from convert.scorer import TYPES, convert
except ModuleNotFoundError as error:
    sys.exit(f"convert: {error.name} is not installed: pip install -r {Path(__file__).parent / 'requirements-convert.txt'}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the file goes")
    parser.add_argument("--type", choices=TYPES, default="f16", help="of the matrices")
    parser.add_argument("--name", help="of the model and in the name of the file (default: the folder's)")
    args = parser.parse_args(arguments)
    try:
        convert(args.checkpoint, args.out, args.name or args.checkpoint.resolve().name, args.type)
    except Problem as problem:
        print(f"convert: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
