"""Shows what `--merge auto` keeps of documents, screenshots and photographs; in tools/:

    python -m evidence.documents -m text.gguf -mm mmproj.gguf --photographs FOLDER --page table.md

Renders text pages, half blank and blank pages, tables, charts, forms and screenshots. It asks `illava batch` about each
with `--merge auto`, and writes a table of the shares that each kind keeps. All of these kinds were looked at when the
thresholds of src/see/content.rs were chosen, so the table describes them and proves nothing about other documents.
Needs Pillow and an `illava`.
"""

import argparse
import json
import random
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
WORDS = """account address amount balance between carried charge column contract copy date delivery department describes
discount document each every figure first following given hours invoice item letter line manager measured month name never
number office order other paid paper part payment period person price quantity rate received report result same second
several shown signed station street sum table their these total under value week when which with without year""".split()
PAPERS = ((255, 255, 255), (250, 248, 240), (244, 246, 250))


def words(draw, count):
    return " ".join(draw.choice(WORDS) for _ in range(count))


def font(size):
    return ImageFont.load_default(size=size)


class Sheet:
    """A picture to write on."""

    def __init__(self, width, height, paper=(255, 255, 255)):
        self.picture = Image.new("RGB", (width, height), paper)
        self.pen = ImageDraw.Draw(self.picture)

    def write(self, x, y, text, size, ink=(20, 20, 20)):
        self.pen.text((x, y), text, fill=ink, font=font(size))


def text(draw, filled=1.0):
    """A letter page whose upper part is written."""
    sheet, size, y = Sheet(800, 1000, draw.choice(PAPERS)), draw.choice((14, 16, 18, 22, 28)), 50
    while y < 50 + 900 * filled:
        sheet.write(50, y, words(draw, 40)[: int(1350 / size)], size)
        y += round(size * (2.4 if draw.random() < 0.12 else 1.4))
    return sheet.picture


def half(draw):
    return text(draw, draw.uniform(0.2, 0.6))


def blank(draw):
    return text(draw, 0.0)


def table(draw):
    sheet, rows, columns, size = Sheet(900, 700), draw.randint(6, 16), draw.randint(3, 7), draw.choice((16, 20))
    wide, high = 820 // columns, min(40, 620 // rows)
    for r in range(rows + 1):
        sheet.pen.line((40, 40 + r * high, 40 + wide * columns, 40 + r * high), fill=(120, 120, 120))
    for c in range(columns + 1):
        sheet.pen.line((40 + c * wide, 40, 40 + c * wide, 40 + high * rows), fill=(120, 120, 120))
    for r in range(rows):
        for c in range(columns):
            cell = draw.choice(WORDS)[:9] if 0 in (r, c) else f"{draw.uniform(0, 1000):.1f}"
            sheet.write(46 + c * wide, 46 + r * high, cell, size)
    return sheet.picture


def chart(draw):
    sheet, count = Sheet(800, 600), draw.randint(4, 9)
    for line in range(6):
        sheet.pen.line((60, 540 - 90 * line, 760, 540 - 90 * line), fill=(220, 220, 220))
        sheet.write(15, 532 - 90 * line, str(20 * line), 16)
    sheet.pen.line((60, 40, 60, 540, 760, 540), fill=(0, 0, 0), width=2)
    if draw.random() < 0.5:
        for bar in range(count):
            left, top = 80 + bar * 680 // count, draw.randint(80, 510)
            sheet.pen.rectangle((left, top, left + 400 // count, 540), fill=tuple(draw.randint(30, 200) for _ in range(3)))
    else:
        for _ in range(draw.randint(1, 4)):
            points = [(60 + i * 700 // count, draw.randint(60, 520)) for i in range(count + 1)]
            sheet.pen.line(points, fill=tuple(draw.randint(0, 200) for _ in range(3)), width=3)
    for name in range(count):
        sheet.write(75 + name * 680 // count, 548, draw.choice(WORDS)[:7], 16)
    sheet.write(200, 8, words(draw, 5), 20)
    return sheet.picture


def form(draw):
    sheet, y = Sheet(800, 1000), 80
    sheet.write(60, 20, words(draw, 4).upper(), 26)
    while y < 920:
        sheet.write(60, y + 8, words(draw, 2).capitalize() + ":", 18)
        sheet.pen.rectangle((300, y, 720, y + 36), outline=(90, 90, 90))
        if draw.random() < 0.6:
            sheet.write(310, y + 8, words(draw, 3), 18, (0, 0, 120))
        y += draw.choice((60, 70, 90))
    return sheet.picture


def screenshot(draw):
    dark = draw.random() < 0.4
    ground, ink = ((30, 30, 34), (220, 220, 220)) if dark else (draw.choice(PAPERS), (20, 20, 20))
    sheet, y, end = Sheet(1280, 800, ground), 60, 800 * draw.choice((0.5, 0.9))
    sheet.pen.rectangle((0, 0, 1280, 36), fill=draw.choice(((60, 90, 160), (50, 50, 50))))
    sheet.write(14, 9, words(draw, 4), 15, (255, 255, 255))
    sheet.pen.rectangle((0, 36, 240, 800), fill=tuple(c + 12 if dark else c - 14 for c in ground))
    for entry in range(draw.randint(5, 18)):
        sheet.write(20, 56 + 34 * entry, words(draw, 2), 15, ink)
    while y < end:
        sheet.write(270, y, words(draw, draw.randint(3, 12)), 15, ink)
        y += draw.choice((22, 22, 44))
    for _ in range(draw.randint(1, 4)):
        x, top = draw.randint(300, 1000), draw.randint(100, 700)
        sheet.pen.rounded_rectangle((x, top, x + 130, top + 38), 8, fill=(40, 110, 220))
        sheet.write(x + 20, top + 9, draw.choice(WORDS), 15, (255, 255, 255))
    return sheet.picture


KINDS = {"text": text, "half": half, "blank": blank, "table": table, "chart": chart, "form": form, "screenshot": screenshot}


def pictures(folder, seeds, photographs):
    """{kind: [(seed, file)]}, the rendered ones written to `folder`; photographs count on by name."""
    found = defaultdict(list)
    for kind, make in KINDS.items():
        for seed in seeds:
            path = folder / f"{kind}-{seed:02}.png"
            make(random.Random(f"{kind}{seed}")).save(path)
            found[kind].append((seed, path))
    if photographs:
        files = sorted(p for p in photographs.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        found["photograph"] = list(enumerate(files))
    return found


def budgets(illava, model, found, folder):
    """{file: its report's budget}, by one call of `illava batch`."""
    lines = [json.dumps({"id": str(path), "prompt": "x", "image": str(path.resolve()), "merge": "auto", "max_tokens": 1})
             for files in found.values() for _, path in files]
    (folder / "in.jsonl").write_text("\n".join(lines))
    subprocess.run([illava, "batch", str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl"), *model, "-c", "16384",
                    "-np", "1"], check=True, stderr=subprocess.DEVNULL)
    answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return {answer["id"]: answer["report"]["merge"]["budgets"][0] for answer in answers}


def shown(found, kept):
    """The table, Markdown."""
    lines = ["| kind | pictures | cells with edges | repeated | plain | kept, even seeds | kept, odd seeds |", "|---|---|---|---|---|---|---|"]
    for kind, files in found.items():
        rows = [(seed % 2, kept[str(path)]) for seed, path in files]
        of = lambda part, odd=None: mean([part(b) / b["cells"] for o, b in rows if odd in (None, o)] or [0])
        edges, repeated = of(lambda b: b["edges"]), of(lambda b: b["repeated"])
        halves = [f"{of(lambda b: b['decoder'], odd):.2f}" for odd in (0, 1)]
        lines.append(f"| {kind} | {len(rows)} | {edges:.2f} | {repeated:.2f} | {1 - edges - repeated:.2f} | {halves[0]} | {halves[1]} |")
    return "\n".join(lines) + "\n"


def main(given=None):
    p = argparse.ArgumentParser(prog="evidence.documents", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True, help="text model")
    p.add_argument("-mm", "--mmproj", required=True, help="image encoder and projector; weights do not matter, the size of its cells does")
    p.add_argument("--photographs", type=Path, help="folder of .jpg and .png files")
    p.add_argument("--each", type=int, default=24, help="pictures of each kind")
    p.add_argument("--page", type=Path, help="file for the table [default: standard output]")
    p.add_argument("--illava", default=str(ROOT / "target/release/illava"))
    a = p.parse_args(given)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = pictures(folder, range(a.each), a.photographs)
        table_ = shown(found, budgets(a.illava, ("-m", a.model, "--mmproj", a.mmproj), found, folder))
    if a.page:
        a.page.write_text(table_)
    else:
        print(table_, end="")


if __name__ == "__main__":
    main()
