#!/usr/bin/env python3
"""Writes the small question sets that tests/eval.rs reads, in the layouts public benchmarks are published in.

    pip install pyarrow && tools/make_eval_sets.py      writes tests/fixtures/eval/

Pictures and answers are the demo pair's own questions.
"""

import base64
import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "models" / "demo"
OUT = ROOT / "tests" / "fixtures" / "eval"
COUNT = 4


def questions(kind: str) -> list[dict]:
    lines = (DEMO / "questions.jsonl").read_text().splitlines()
    chosen = [q for q in map(json.loads, lines) if q["kind"] == kind]
    return chosen[:COUNT]


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)

    presence = questions("presence")
    rows = [
        {
            "question_id": f"scene/{i}",
            "image": {"bytes": (DEMO / q["image"]).read_bytes(), "path": Path(q["image"]).name},
            "question": q["question"],
            "answer": q["answer"].capitalize(),
            "category": "existence" if i % 2 else "color",
        }
        for i, q in enumerate(presence)
    ]
    pq.write_table(pa.Table.from_pylist(rows), OUT / "yes_no.parquet", compression="snappy")

    counts = questions("count_all")
    rows = [
        {
            "questionId": i,
            "image": {"bytes": (DEMO / q["image"]).read_bytes(), "path": None},
            "question": q["question"],
            "answers": [q["answer"], q["answer"].capitalize()],
        }
        for i, q in enumerate(counts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), OUT / "documents.parquet", compression="zstd")

    with open(OUT / "choice.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "image", "question", "A", "B", "C", "answer", "category"])
        for i, q in enumerate(counts):
            others = [word for word in ("one", "two", "three", "four") if word != q["answer"]][:2]
            options = [*others, q["answer"]]
            picture = base64.b64encode((DEMO / q["image"]).read_bytes()).decode()
            writer.writerow([2 * i, picture, q["question"], *options, "C", "count"])
            writer.writerow([2 * i + 1, 2 * i, q["question"], *reversed(options), "A", "again"])


if __name__ == "__main__":
    main()
