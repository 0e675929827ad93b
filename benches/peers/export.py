"""Writes a shape as OpenVINO's users have it: traced from transformers, weights compressed as its exporter does.

    python -m peers.export SHAPE --weights bf16|int8|int4 --out MODEL.xml [--projection 896]

int8 has a scale and a zero point for each row of a matrix, int4 for each 128 inputs, with the logits' matrix in int8:
the defaults of the exporter for 8 and 4 bits.
"""

import argparse
from pathlib import Path

import nncf
import openvino
import torch

from .networks import Encoder, filled, network


def write(shape: str, weights: str, projection: int, out: Path) -> None:
    module = filled(network(shape, projection), torch.float32, shared=True)
    with torch.inference_mode():
        model = openvino.convert_model(module, example_input=module.example())
    # Any number of rows, as exported text models have it.
    model.reshape([1, 3, module.side, module.side] if isinstance(module, Encoder) else [1, -1, module.width])
    if weights == "int8":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    elif weights == "int4":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=128, ratio=1.0)
    out.parent.mkdir(parents=True, exist_ok=True)
    # bf16 models are stored in 16 bits and computed in the processor's own type of 16 bits.
    openvino.save_model(model, out, compress_to_fp16=weights == "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape")
    parser.add_argument("--weights", choices=("bf16", "int8", "int4"), required=True)
    parser.add_argument("--projection", type=int, default=896)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write(args.shape, args.weights, args.projection, args.out)


if __name__ == "__main__":
    main()
