"""The class token on large photographs, at any number of patches: the cosine that merging in the encoder leaves."""

from pathlib import Path

import numpy as np
from PIL import Image

from . import measures, packages, pictures, sets, settings
from .engine import Nearness
from .tower import PATCH, WIDTH
from .tower_evidence import write_files

SHARES = (0.5, 0.25)
RULES = (("merge", None), ("random", None), ("kmeans", True), ("assign", True), ("bipartite", True))


def photographs(debs: Path) -> list[Path]:
    """One file for each photograph of `mate-backgrounds`, which has some in several sizes."""
    found = {}
    for path in sorted(pictures.photographs(packages.debian("mate-backgrounds", debs))):
        found.setdefault(path.stem.split("_")[0], path)
    return list(found.values())


def table(work: Path, text: Path, graph: bytes, debs: Path, side: int) -> str:
    """Markdown: a row for each share and rule, mean and 95 % interval over the photographs."""
    work.mkdir(parents=True, exist_ok=True)
    tokens = (side // PATCH) ** 2
    rules = [(share, *rule) for share in SHARES for rule in RULES]
    _, first = write_files(work, graph, debs, side)
    engine, cosines, found = Nearness("rows", text, first), [], photographs(debs)
    asked = [settings.OFF, *(settings.encoder(tokens, *rule) for rule in rules)]
    for path in found:
        sets.square(Image.open(path).convert("RGB"), side).save(work / "now.png")
        off, *merged = engine.rows(work / "now.png", asked, WIDTH)
        cosines.append([measures.cosine(off.rows[0], rows.rows[0]) for rows in merged])
    engine.close()
    lines = [f"| of {tokens} | rule | class token, {len(found)} photographs |", "|---|---|---|"]
    for (share, *rule), values in zip(rules, np.array(cosines).T, strict=True):
        mean, low, high = measures.interval(values)
        lines.append(f"| {round(share * tokens)} | {settings.name(*rule)} | {mean:.4f} [{low:.4f}, {high:.4f}] |")
    return "\n".join(lines)
