"""Questions about the gate's kind of pictures as a set for `illava eval`: things and photographs that training never saw."""

import json
import random
from pathlib import Path

from . import packages, pictures
from .answers import KIND, there
from .scenes import load_grounds


def write(debs: Path, out: Path, count: int, side: int = 224, seed: int = 7) -> Path:
    """Writes `count` compositions and questions.jsonl, three questions a picture: its kind, one that is there, one that is not.

    Things come in turn, at other places on other grounds each time.
    """
    rng = random.Random(seed)
    _, things = pictures.split(pictures.cut_outs(packages.debian(packages.DEBIAN[0], debs)), 5)
    _, places = pictures.split(pictures.photographs(packages.debian(packages.DEBIAN[1], debs)), 4)
    grounds, kinds = load_grounds(places), sorted(set(pictures.KINDS.values()))
    rng.shuffle(things)
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        shown = things[i % len(things)]
        pictures.paste(shown, rng.choice(grounds), side, rng)[0].save(out / f"{i:03}.png")
        other = rng.choice([kind for kind in kinds if kind != shown.kind])
        for kind, question, answer in (("kind", KIND, shown.kind), ("yes", there(shown.kind), "yes"), ("no", there(other), "no")):
            lines.append({"id": f"{i:03}-{kind}", "kind": kind, "image": f"{i:03}.png", "question": question, "answer": answer})
    (out / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out / "questions.jsonl"
