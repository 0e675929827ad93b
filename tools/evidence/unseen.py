"""Shows what `--merge auto` keeps of kinds of documents that nothing was chosen on; in tools/:

    python -m evidence.unseen -m text.gguf -mm mmproj.gguf --page table.md

Renders invoices, newspapers, slides, listings, receipts, plans, notes and spreadsheets. A cell counts as written if its
pixels differ. The table says which share of all cells and of the written ones keeps a token of its own to the upper
decoder layers. It has `auto` and `balanced`. The kinds were drawn after the thresholds of src/schedule/auto.rs and
src/see/content.rs were fixed. Needs Pillow and an `illava`.
"""

import argparse
import json
import math
import random
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean

from .documents import PAPERS, ROOT, WORDS, Sheet, words

# Levels of 255 by which the pixels of a written cell differ at least.
WRITTEN = 48


def money(draw):
    return f"{draw.uniform(1, 2000):,.2f}"


def invoice(draw):
    sheet, y = Sheet(800, 1100, draw.choice(PAPERS)), 330
    sheet.write(60, 50, words(draw, 2).title(), 34)
    for line in range(4):
        sheet.write(60, 120 + 26 * line, words(draw, 3).title(), 17)
        sheet.write(520, 120 + 26 * line, f"{draw.choice(WORDS)}: {draw.randint(1, 9999)}", 17)
    for _ in range(draw.randint(3, 12)):
        sheet.write(60, y, words(draw, draw.randint(2, 5)), 17)
        sheet.write(640, y, money(draw), 17)
        y += 34
    sheet.pen.line((60, y + 6, 740, y + 6), fill=(0, 0, 0), width=2)
    sheet.write(520, y + 20, f"total {money(draw)}", 22)
    return sheet.picture


def newspaper(draw):
    sheet = Sheet(900, 1200, (246, 243, 232))
    sheet.write(60, 30, words(draw, 3).title(), 54)
    sheet.pen.line((40, 110, 860, 110), fill=(40, 40, 40), width=3)
    for column in range(3):
        y = 140
        while y < 1150:
            if draw.random() < 0.06 and y < 950:
                tone = tuple(draw.randint(60, 190) for _ in range(3))
                sheet.pen.rectangle((50 + 275 * column, y, 300 + 275 * column, y + 150), fill=tone)
                y += 165
            headline = draw.random() < 0.05
            sheet.write(50 + 275 * column, y, words(draw, 9)[: 16 if headline else 34], 26 if headline else 14)
            y += 38 if headline else 20
    return sheet.picture


def slide(draw):
    dark = draw.random() < 0.5
    ground, ink = ((20, 40, 80), (240, 240, 240)) if dark else ((255, 255, 255), (30, 30, 30))
    sheet = Sheet(1280, 720, ground)
    sheet.write(80, 60, words(draw, 4).capitalize(), 52, ink)
    for line in range(draw.randint(2, 5)):
        sheet.pen.ellipse((90, 218 + 84 * line, 104, 232 + 84 * line), fill=ink)
        sheet.write(130, 205 + 84 * line, words(draw, draw.randint(3, 7)), 30, ink)
    if draw.random() < 0.5:
        centre, start = (1020, 470), 0
        for part in range(4):
            end = 360 if part == 3 else start + draw.randint(40, 110)
            box = (centre[0] - 150, centre[1] - 150, centre[0] + 150, centre[1] + 150)
            sheet.pen.pieslice(box, start, end, fill=tuple(draw.randint(40, 230) for _ in range(3)))
            start = end
    return sheet.picture


def listing(draw):
    dark = draw.random() < 0.6
    ground, ink = ((25, 25, 28), (210, 210, 210)) if dark else ((253, 253, 253), (30, 30, 30))
    sheet, y, depth = Sheet(1000, 800, ground), 20, 0
    while y < 770:
        depth = max(0, min(5, depth + draw.choice((-1, 0, 0, 1))))
        sheet.write(14, y, str(y // 22), 15, (120, 120, 120))
        if draw.random() < 0.85:
            colour = draw.choice((ink, (90, 160, 220), (200, 130, 60)))
            sheet.write(60 + 32 * depth, y, f"{words(draw, draw.randint(1, 6)).replace(' ', '_')}();", 16, colour)
        y += 22
    return sheet.picture


def receipt(draw):
    sheet, y = Sheet(420, 1000, (252, 252, 250)), 120
    sheet.write(110, 40, words(draw, 2).upper(), 26)
    for _ in range(draw.randint(4, 22)):
        sheet.write(30, y, draw.choice(WORDS), 18)
        sheet.write(300, y, money(draw), 18)
        y += 30
    sheet.write(30, y + 20, f"SUM {money(draw)}", 26)
    return sheet.picture


def plan(draw):
    sheet = Sheet(900, 700, (255, 255, 255))
    cuts_x = sorted({60, 840, *(draw.randint(150, 750) for _ in range(3))})
    cuts_y = sorted({60, 640, *(draw.randint(140, 560) for _ in range(2))})
    for left, right in zip(cuts_x, cuts_x[1:]):
        for top, bottom in zip(cuts_y, cuts_y[1:]):
            sheet.pen.rectangle((left, top, right, bottom), outline=(0, 0, 0), width=4)
            if right - left > 110:
                sheet.write(left + 20, (top + bottom) // 2, draw.choice(WORDS)[:8], 20)
    return sheet.picture


def notes(draw):
    sheet = Sheet(800, 1000, (255, 253, 240))
    for line in range(1, 24):
        sheet.pen.line((0, 40 * line, 800, 40 * line), fill=(190, 205, 230))
    for line in range(1, draw.randint(4, 20)):
        # Strokes instead of letters: a hand's loops along the line.
        x, points = 60, []
        while x < draw.randint(300, 740):
            points.append((x, 40 * line - 8 + 11 * math.sin(x / 7) + draw.uniform(-6, 6)))
            x += 5
        sheet.pen.line(points, fill=(30, 40, 120), width=3)
    return sheet.picture


def spreadsheet(draw):
    sheet, rows, columns = Sheet(1200, 760), 30, 9
    for row in range(rows + 1):
        sheet.pen.line((0, 25 * row, 1200, 25 * row), fill=(215, 215, 215))
    for column in range(columns + 1):
        sheet.pen.line((133 * column, 0, 133 * column, 760), fill=(215, 215, 215))
    filled = draw.randint(4, 28)
    for row in range(filled):
        for column in range(draw.randint(3, columns)):
            cell = draw.choice(WORDS)[:10] if 0 in (row, column) else money(draw)
            sheet.write(133 * column + 6, 25 * row + 4, cell, 15)
    return sheet.picture


KINDS = {"invoice": invoice, "newspaper": newspaper, "slide": slide, "listing": listing, "receipt": receipt, "plan": plan,
         "notes": notes, "spreadsheet": spreadsheet}


def written(picture, tile):
    """[rows * columns], whether the pixels that a cell shows differ. A cell of padding shows none."""
    grey, found = picture.convert("L"), []
    left, top, right, bottom = tile["pixels"]
    across, down = (right - left) / tile["columns"], (bottom - top) / tile["rows"]
    for row in range(tile["rows"]):
        for column in range(tile["columns"]):
            x, y = left + column * across, top + row * down
            box = (max(round(x), 0), max(round(y), 0), min(round(x + across), grey.width), min(round(y + down), grey.height))
            low, high = grey.crop(box).getextrema() if box[0] < box[2] and box[1] < box[3] else (0, 0)
            found.append(high - low >= WRITTEN)
    return found


def kept(illava, model, files, preset, folder):
    """{file: its tiles' cells}, each whether it keeps its token."""
    lines = [json.dumps({"id": str(path), "prompt": "x", "image": str(path.resolve()), "merge": preset, "max_tokens": 1, "kept": True})
             for path in files]
    (folder / "in.jsonl").write_text("\n".join(lines))
    out = folder / f"{preset}.jsonl"
    subprocess.run([illava, "batch", str(folder / "in.jsonl"), "-o", str(out), *model, "-c", "16384", "-np", "1"],
                   check=True, stderr=subprocess.DEVNULL)
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    return {answer["id"]: answer["kept"][0]["tiles"] for answer in answers}


def shown(rows):
    lines = ["| kind | written cells | kept of all, `auto` | of the written | kept of all, `balanced` | of the written |", "|---|---|---|---|---|---|"]
    for kind, figures in rows.items():
        lines.append(f"| {kind} | " + " | ".join(f"{mean(column):.2f}" for column in zip(*figures)) + " |")
    return "\n".join(lines) + "\n"


def main(given=None):
    p = argparse.ArgumentParser(prog="evidence.unseen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True, help="text model")
    p.add_argument("-mm", "--mmproj", required=True, help="image encoder and projector of one tile; the size of its cells matters")
    p.add_argument("--each", type=int, default=24, help="pictures of each kind")
    p.add_argument("--page", type=Path, help="file for the table [default: standard output]")
    p.add_argument("--illava", default=str(ROOT / "target/release/illava"))
    a = p.parse_args(given)
    rows = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder, pictures = Path(name), {}
        for kind, make in KINDS.items():
            for seed in range(a.each):
                path = folder / f"{kind}-{seed:02}.png"
                pictures[path] = (kind, make(random.Random(f"unseen {kind} {seed}")))
                pictures[path][1].save(path)
        model = ("-m", a.model, "--mmproj", a.mmproj)
        found = {preset: kept(a.illava, model, pictures, preset, folder) for preset in ("auto", "balanced")}
        for path, (kind, picture) in pictures.items():
            figures = []
            for tiles in (found[preset][str(path)] for preset in ("auto", "balanced")):
                [tile] = tiles
                ink = written(picture, tile)
                own = [cell["gone"] == 0 for cell in tile["cells"]]
                figures += [sum(own) / len(own), sum(o for o, i in zip(own, ink) if i) / max(sum(ink), 1)]
            rows[kind].append([sum(ink) / len(ink), *figures])
    if a.page:
        a.page.write_text(shown(rows))
    else:
        print(shown(rows), end="")


if __name__ == "__main__":
    main()
