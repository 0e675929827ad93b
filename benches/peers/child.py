"""A peer as a process that answers the commands of bench-pair: `encode off`, `prefill N off`, `first off off`.

    python -m peers.child openvino|transformers --threads 1 --tower FILE|SHAPE --text FILE|SHAPE [--projection 896]

OpenVINO takes exported files, transformers takes shapes. Everything else is each library's default.
"""

import argparse
import json
import sys
import time

import numpy

QUESTION = 32  # text rows behind the picture, as in bench-pair


class OpenVino:
    def __init__(self, args: argparse.Namespace):
        import openvino

        core = openvino.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": args.threads})
        self.tower, self.text = (
            core.compile_model(file, "CPU").create_infer_request() if file else None for file in (args.tower, args.text)
        )

    def pixels(self) -> tuple[int, ...]:
        return tuple(self.tower.model_inputs[0].shape)

    def width(self) -> int:
        return self.text.model_inputs[0].partial_shape[2].get_length()

    def encode(self, pixels: numpy.ndarray) -> numpy.ndarray:
        return self.tower.infer([pixels])[0]

    def prefill(self, rows: numpy.ndarray) -> numpy.ndarray:
        return self.text.infer([rows])[0]

    def precision(self) -> dict:
        found = {}
        for name, request in (("tower", self.tower), ("text", self.text)):
            if request:
                compiled = request.get_compiled_model()
                found[name] = {key: str(compiled.get_property(key)) for key in
                               ("INFERENCE_PRECISION_HINT", "DYNAMIC_QUANTIZATION_GROUP_SIZE", "INFERENCE_NUM_THREADS")}
        return found


class Transformers:
    def __init__(self, args: argparse.Namespace):
        import torch

        from .networks import filled, network

        self.torch = torch
        torch.set_num_threads(args.threads)
        self.tower, self.text = (
            filled(network(shape, args.projection), torch.bfloat16) if shape else None for shape in (args.tower, args.text)
        )

    def pixels(self) -> tuple[int, ...]:
        return (1, 3, self.tower.side, self.tower.side)

    def width(self) -> int:
        return self.text.width

    def _run(self, module, values: numpy.ndarray) -> numpy.ndarray:
        with self.torch.inference_mode():
            return module(self.torch.from_numpy(values).bfloat16()).float().numpy()

    def encode(self, pixels: numpy.ndarray) -> numpy.ndarray:
        return self._run(self.tower, pixels)

    def prefill(self, rows: numpy.ndarray) -> numpy.ndarray:
        return self._run(self.text, rows)

    def precision(self) -> dict:
        return {"tower": "bf16", "text": "bf16"}


def answer(peer: OpenVino | Transformers, command: str) -> dict:
    word, *rest = command.split()
    random = numpy.random.default_rng(1)
    if word == "describe":
        return peer.precision()
    if word not in ("encode", "prefill", "first") or rest[-1] != "off":
        raise ValueError(f"no such command for a peer: {command}")
    pixels = random.random(peer.pixels(), dtype=numpy.float32) if word != "prefill" else None
    rows = random.random((1, int(rest[0]), peer.width()), dtype=numpy.float32) if word == "prefill" else None
    question = random.random((1, QUESTION, peer.width()), dtype=numpy.float32) if word == "first" else None
    wall, cpu = time.perf_counter(), time.process_time()
    encoded = 0.0
    if pixels is not None:
        rows = peer.encode(pixels)
        encoded = time.perf_counter() - wall
    if word == "first":
        result = peer.prefill(numpy.concatenate([rows, question], axis=1))
    elif word == "prefill":
        result = peer.prefill(rows)
    else:
        result = rows
    ms, cpu_ms = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)
    if not numpy.isfinite(result).all():
        raise ValueError(f"{command}: a result is not finite")
    return {"ms": ms, "cpu_ms": cpu_ms, "encode_ms": 1e3 * encoded, "rows": rows.shape[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=("openvino", "transformers"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tower")
    parser.add_argument("--text")
    parser.add_argument("--projection", type=int, default=896)
    args = parser.parse_args()
    peer = OpenVino(args) if args.library == "openvino" else Transformers(args)
    for line in sys.stdin:
        try:
            reply = answer(peer, line)
        except ValueError as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
