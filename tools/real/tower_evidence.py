"""The tower alone, measured on the engine: what is left of its output after merging, picture by picture."""

import json
from pathlib import Path

import numpy as np

from . import measures, packages, sets, settings, tower
from .bare_tower import write_class_token, write_rows
from .engine import Nearness
from .tower import EPSILON, LAYERS, PATCH, WIDTH

SIDE = 336
TOKENS = (SIDE // PATCH) ** 2


def rules() -> list[tuple[float, str, bool | None]]:
    """Share, strategy and sizes of every row."""
    return [(share, *rule) for share in settings.SHARES for rule in settings.RULES]


def gather(debs: Path, each: int) -> dict[str, list[tuple]]:
    """`each` pictures of each set, as (picture, mask or None)."""
    photographs = sets.named(packages.debian("gcompris-qt-data", debs))
    step = len(photographs) / each
    return {
        "photographs": [(sets.square(photographs[int(i * step)][2], SIDE), None) for i in range(each)],
        "compositions": sets.compositions(debs, each, SIDE),
        "pages": [(sets.page(SIDE, seed), None) for seed in range(each)],
    }


def write_files(work: Path, graph: bytes, debs: Path, side: int = SIDE) -> tuple[Path, Path]:
    """Both projector files of the bare tower. The class token is told from patches by pictures that are not measured."""
    import torch

    from .scenes import normalised
    from .tower_torch import Tower

    rows, first = work / "rows.gguf", work / "class-token.gguf"
    if not (rows.is_file() and first.is_file()):
        tensors = tower.weights(graph)
        encoder = Tower.of(tensors, side)
        shown = [picture for picture, _ in sets.compositions(debs, 4, side, seed=99)] + [sets.page(side, 1000 + i) for i in range(2)]
        found = []
        for picture in shown:
            with torch.no_grad():
                x = encoder.embed(normalised(picture))
                for layer in range(LAYERS):
                    x = encoder.block(layer, x)
                found.append(torch.nn.functional.layer_norm(x, (WIDTH,), eps=EPSILON)[0].double().numpy())
        write_rows(rows, tensors, side)
        write_class_token(first, tensors, side, np.stack([x[0] for x in found]), np.concatenate([x[1:] for x in found]))
    return rows, first


def things(off: np.ndarray, left: np.ndarray, mask: np.ndarray | None) -> float | None:
    """Mean cover of the patches of which the mask has more than half; None without a mask."""
    if mask is None:
        return None
    across = SIDE // PATCH
    inside = mask.reshape(across, PATCH, across, PATCH).mean((1, 3)).reshape(-1) > 0.5
    return float(measures.cover(off, left)[inside].mean()) if inside.any() else None


def measure(work: Path, text: Path, graph: bytes, debs: Path, each: int, threads: int = 1) -> None:
    """Adds what is missing to `tower.jsonl` and `tower-class.npz` in `work`: a line for each picture."""
    log, files = work / "tower.jsonl", write_files(work, graph, debs)
    done = {(line["set"], line["picture"]) for line in map(json.loads, log.read_text().splitlines())} if log.is_file() else set()
    asked = [settings.OFF, *(settings.encoder(TOKENS, *rule) for rule in rules())]
    engines = [Nearness("rows", text, file, threads) for file in files]
    pictures = gather(debs, each)
    for i in range(each):
        for kind, found in pictures.items():
            if (kind, i) in done:
                continue
            picture, mask = found[i]
            picture.save(work / "now.png")
            rows, first = (engine.rows(work / "now.png", asked, WIDTH) for engine in engines)
            off, off_first = rows[0].rows, first[0].rows[0]
            lines = []
            for rule, a, b in zip(rules(), rows[1:], first[1:], strict=True):
                lines.append({
                    "share": rule[0], "rule": settings.name(*rule[1:]), "tokens": len(a.rows),
                    "class token": measures.cosine(off_first, b.rows[0]),
                    "mean": measures.cosine(off.mean(0), a.sizes / a.sizes.sum() @ a.rows),
                    "cover": float(measures.cover(off, a.rows).mean()),
                    "things": things(off, a.rows, mask),
                })
            np.save(work / f"class-{kind}-{i}.npy", np.stack([off_first, *(b.rows[0] for b in first[1:])]).astype(np.float32))
            with log.open("a") as file:
                file.write(json.dumps({"set": kind, "picture": i, "rows": lines}) + "\n")
            print(f"{kind} {i + 1} of {each}", flush=True)
    for engine in engines:
        engine.close()


def summary(work: Path) -> dict:
    """Means and intervals of every row and set, and how often the nearest other picture stays the same."""
    lines = [json.loads(line) for line in (work / "tower.jsonl").read_text().splitlines()]
    kinds = list(dict.fromkeys(line["set"] for line in lines))
    near = np.stack([np.load(work / f"class-{line['set']}-{line['picture']}.npy") for line in lines], 1)
    same = np.stack([measures.nearest(rows) == measures.nearest(near[0]) for rows in near[1:]])
    rows = []
    for at, (share, *rule) in enumerate(rules()):
        for kind in kinds:
            own = [(i, line["rows"][at]) for i, line in enumerate(lines) if line["set"] == kind]
            row = {"set": kind, "share": share, "rule": settings.name(*rule), "tokens": own[0][1]["tokens"]}
            for figure in ("class token", "mean", "cover", "things"):
                values = [found[figure] for _, found in own if found[figure] is not None]
                row[figure] = [round(value, 5) for value in measures.interval(np.array(values))] if values else None
            row["nearest"] = round(float(same[at, [i for i, _ in own]].mean()), 3)
            if rule[0] == "prumerge":
                # It acts behind the encoder, whose class token stays what it was.
                row["class token"] = row["nearest"] = None
            rows.append(row)
    return {"pictures": {kind: sum(line["set"] == kind for line in lines) for kind in kinds}, "unmerged": TOKENS, "rows": rows}
