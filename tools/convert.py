#!/usr/bin/env python3
"""Turns a Hugging Face checkpoint folder into a pair of GGUF files.

    convert.py FOLDER --out DIR [--type q4_k_m] [--tower-type f16]

Writes DIR/NAME-TYPE.gguf and DIR/mmproj-NAME-TYPE.gguf. FOLDER holds LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision
or Qwen2-VL, in the layout of transformers or in that of the authors (then perhaps with --tower). Read
docs/models.md for the commands from download to pair.
"""

import argparse
import sys
from pathlib import Path

try:
    from convert.encode import DIRECT, QUANTISED
    from convert.pair import Job, convert
    from convert.problem import Problem
    from convert.recommend import Recommendation
except ModuleNotFoundError as error:
    sys.exit(f"convert: {error.name} is not installed: pip install -r {Path(__file__).parent / 'requirements-convert.txt'}")


def parse(arguments: list[str] | None) -> Job:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the pair goes")
    parser.add_argument("--type", choices=(*DIRECT, *QUANTISED), default="f16", metavar="TYPE",
                        help=f"of the text model: {', '.join((*DIRECT, *QUANTISED))}")
    parser.add_argument("--tower-type", choices=DIRECT, default="f16", help="of image encoder and projector")
    parser.add_argument("--tower", type=Path, metavar="FOLDER",
                        help="the image encoder's own checkpoint, where the original layout only names it")
    parser.add_argument("--name", help="of the model and in the names of the files (default: the folder's)")
    parser.add_argument("--only", choices=("text", "mmproj"), help="write one of the two files")
    parser.add_argument("--quantizer", type=Path, metavar="PROGRAM",
                        help="illava or llama.cpp's llama-quantize (default: the installed illava, else cargo builds it)")
    parser.add_argument("--lora", "--adapter", type=Path, metavar="FOLDER", action="append", default=[],
                        help="a PEFT adapter to apply; several are applied one after the other")
    parser.add_argument("--chat-template", type=Path, metavar="FILE", help="Jinja to store instead of the checkpoint's")
    parser.add_argument("--metadata", type=Path, metavar="FILE",
                        help="JSON with general.* keys that go before those of the folder")
    Recommendation.add_arguments(parser)
    args = parser.parse_args(arguments)
    recommendation = Recommendation.of(args)
    name = args.name or args.checkpoint.resolve().name
    return Job(args.checkpoint, args.out, name, args.type, args.tower_type, args.tower, args.only, args.quantizer,
               recommendation, tuple(args.lora), args.chat_template, args.metadata)


def main(arguments: list[str] | None = None) -> int:
    try:
        convert(parse(arguments))
    except Problem as problem:
        print(f"convert: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
