"""Writes the fixtures of tests/public_sets.rs and of the metrics' tests; in tools/:

    pip install pyarrow pillow && python3 -m public_sets      writes tests/fixtures/eval/
"""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .layouts import LAYOUTS, png
from .marks import golden

OUT = Path(__file__).resolve().parents[2] / "tests/fixtures/eval"
SETS = OUT / "public"


def table(rows, types):
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([row.get(name) for row in rows], types.get(name)) for name in names}
    return pa.table(columns)


def write(path, rows, types=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table(rows, types or {}), path, compression="snappy", store_schema=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows) + "\n")
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def main():
    expected = []
    for layout in LAYOUTS:
        path = SETS / layout.path
        write(path, layout.rows, layout.types)
        for name, other in layout.other.items():
            beside = SETS / name
            if isinstance(other, str):
                beside.parent.mkdir(parents=True, exist_ok=True)
                beside.write_text(other)
            else:
                write(beside, other, {name: layout.types[name] for name in layout.types if name in other[0]})
        for folder in layout.videos:
            # A folder of frames stands for a file, so that no ffmpeg is needed.
            frames = path.parent / folder
            frames.mkdir(parents=True, exist_ok=True)
            for number, colour in enumerate(("blue", "red")):
                (frames / f"{number}.png").write_bytes(png(colour))
        expected.append({"set": layout.root or layout.path.split("/")[0], "metric": layout.metric, "items": layout.expect})
    (OUT / "public.json").write_text(json.dumps(expected, indent=1) + "\n")
    cases, captions = golden()
    (OUT / "marks.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    (OUT / "captions.json").write_text(json.dumps(captions, indent=1) + "\n")


if __name__ == "__main__":
    main()
