"""In tools/: `python -m unittest paper.test_paper`; the last class needs an `illava` (target/release, or ILLAVA) and the
tiny pairs (target/test-models, or ILLAVA_TEST_MODELS)."""

import csv
import json
import os
import shutil
import tempfile
import unittest
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from . import __main__ as command
from .runs import Absent
from .sets import MEAN, SETS, TABLE_1, TABLE_2, find
from .tables import Table, Value, clock, mean_of, seconds, value

ROOT = Path(__file__).resolve().parents[2]
SETS_HERE = ROOT / "tests/fixtures/eval/public"
ILLAVA = os.environ.get("ILLAVA", str(ROOT / "target/release/illava"))
MODELS = Path(os.environ.get("ILLAVA_TEST_MODELS", ROOT / "target/test-models"))


def row(schedule, accuracy, category="", **more):
    parts = {"mean": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
    return {"schedule": schedule, "strategy": "", "category": category, "questions": 10, "failures": 0, "compared": 10, "accuracy": parts,
            "difference": {"mean": accuracy - 0.5, "low": accuracy - 0.6, "high": accuracy - 0.4}, "seconds": 90.0 if schedule == "off" else 45.0} | more


def summary(*rows, scores=()):
    return {"rows": list(rows), "scores": [dict(zip(("schedule", "name", "value"), score)) for score in scores]}


class Sets(unittest.TestCase):
    def test_every_set_of_the_paper_is_found_in_its_published_layout(self):
        for name, public in SETS.items():
            self.assertIsNotNone(find(SETS_HERE, public), name)
        self.assertEqual(find(SETS_HERE, SETS["InfoVQA"]), SETS_HERE / "DocVQA/InfographicVQA")
        self.assertEqual(find(SETS_HERE, SETS["EgoSchema"]), SETS_HERE / "egoschema/Subset")

    def test_spelling_does_not_matter_and_a_missing_set_is_none(self):
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "seed_bench").mkdir()
            (Path(name) / "mme.tsv").write_text("")
            self.assertEqual(find(name, SETS["SeedBench video"]).name, "seed_bench")
            self.assertEqual(find(name, SETS["MME"]).name, "mme.tsv")
            self.assertIsNone(find(name, SETS["MMMU"]))


class Cells(unittest.TestCase):
    def test_a_cell_has_its_interval_and_its_difference(self):
        made = summary(row("off", 0.5), row("paper", 0.4))
        self.assertEqual(value(made, 0, "MMMU").shown, "50.0 (40.0 to 60.0)")
        self.assertEqual(value(made, 1, "MMMU").shown, "40.0 (30.0 to 50.0), -10.0 (-20.0 to +0.0)")
        self.assertEqual(value(made, 2, "MMMU").why, "not here")
        self.assertEqual(value(summary(row("off", 0.5, failures=10)), 0, "MMMU").why, "nothing marked")

    def test_sets_show_their_own_scores(self):
        mme = summary(row("off", 0.5), scores=[("off", "MME perception", 1580.4), ("off", "MME cognition", 418.2), ("paper", "MME cognition", 1)])
        self.assertEqual(value(mme, 0, "MME").shown, "418/1580")
        self.assertEqual(value(summary(row("off", 0.7), scores=[("off", "detail of 5", 3.75)]), 0, "VideoDC").shown, "3.75")
        chat = [("off", "correctness of 5", 3.0), ("off", "detail of 5", 4.0), ("off", "mean of aspects, of 5", 3.5)]
        self.assertEqual(value(summary(row("off", 0.7), scores=chat), 0, "VideoChatGPT generic").mean, 3.5)
        self.assertEqual(value(summary(row("off", 0.7), scores=[("off", "mean of categories, %", 60.2)]), 0, "MLVU").shown, "60.2")

    def test_halves_of_seedbench_are_its_categories(self):
        both = summary(row("off", 0.6), row("off", 0.75, "image"), row("off", 0.5, "video"))
        self.assertEqual([value(both, 0, f"SeedBench {half}").mean for half in ("image", "video")], [75.0, 50.0])

    def test_means_over_sets_have_narrower_intervals(self):
        cells = [value(summary(row("off", 0.5), row("paper", mark)), 1, "MMMU") for mark in (0.4, 0.6)]
        mean = mean_of([*cells, Absent("not here")])
        # Half widths of 10 and 10 points: sqrt(200) / 2.
        self.assertAlmostEqual(mean.mean, 50.0)
        self.assertAlmostEqual(mean.high - mean.mean, 200 ** 0.5 / 2)
        self.assertAlmostEqual(mean.against[0], 0.0)
        self.assertEqual(mean_of([Absent("not here")]).why, "not here")
        self.assertEqual(mean_of([Absent("not here"), Absent("failed: x")]).why, "failed: x")

    def test_time_is_summed_and_compared_with_off(self):
        two = [summary(row("off", 0.5), row("paper", 0.5))] * 2
        self.assertEqual(seconds([*two, Absent("not here")], 1).shown, "1 min 30 s, 0.50 of off")
        self.assertEqual([clock(time) for time in (4.25, 75, 3 * 3600 + 60)], ["4.2 s", "1 min 15 s", "3 h 01 min"])

    def test_markdown_and_csv_say_the_same(self):
        table = Table("5", "Table 5", "About.", ["accuracy", "time"])
        table.add("off", [Value("1.0", 3, 1.0, 0.5, 1.5, (0.0, -1.0, 1.0)), Absent("not here")])
        self.assertIn("| off | 1.0 | not here |", table.markdown())
        rows = list(csv.DictReader(StringIO(table.csv())))
        self.assertEqual((rows[0]["n"], rows[0]["difference_low"], rows[1]["note"]), ("3", "-1.0", "not here"))


class Pipeline(unittest.TestCase):
    """On tiny pairs with random weights, whose numbers mean nothing."""

    def test_tables_and_figures_by_one_command_and_nothing_twice(self):
        large, small = MODELS / "siglip-qwen2-f32", MODELS / "clip-llama-f32"
        with tempfile.TemporaryDirectory() as name:
            sets, out = Path(name) / "sets", Path(name) / "out"
            for there in ("MMMU", "MMBench", "MME", "MMVet", "SEED-Bench"):
                shutil.copytree(SETS_HERE / there, sets / there)
            given = ["-m", str(large / "text.gguf"), "-mm", str(large / "mmproj.gguf"), "--name", "large", "--illava", ILLAVA,
                     "--small", f"small={small / 'text.gguf'},{small / 'mmproj.gguf'}", "--sets", str(sets), "--out", str(out)]
            for only in ("table-1", "table-2", "table-3", "table-4", "figure-1", "figure-5"):
                given += ["--only", only]
            given += ["--", "-n", "2", "-t", "1", "--crop-model", str(MODELS / "scorers/clipseg-F16.gguf")]
            said = StringIO()
            with redirect_stderr(said):
                command.main(given)
            self.assertIn("large, MMMU: --set", said.getvalue())
            first = list(csv.DictReader(StringIO((out / "table-1.csv").read_text())))
            self.assertEqual([row["column"] for row in first[:len(TABLE_1)]], list(TABLE_1))
            told = {row["column"]: row["note"] for row in first[:len(TABLE_1)]}
            self.assertEqual((told["MMStar"], told["MMVet"], told["MMMU"]), ("not here", "no judge", ""))
            second = list(csv.DictReader(StringIO((out / "table-2.csv").read_text())))
            self.assertEqual([row["n"] for row in second if row["column"] == "SeedBench video"], ["1", "1", ""])
            self.assertEqual({row["note"] for row in second[:len(TABLE_2)]}, {"not here", ""})
            methods = list(csv.DictReader(StringIO((out / "table-3.csv").read_text())))
            named = {row["row"] for row in methods if row["n"]}
            self.assertTrue({"off", "ToMe (bipartite)", "LLaVA-PruMerge", "Free-VideoLLM", "iLLaVA (merge)"} <= named, named)
            means = [row for row in csv.DictReader(StringIO((out / "table-4.csv").read_text())) if row["column"] == "accuracy"]
            self.assertTrue(all(row["n"] == "4" for row in means), means)
            self.assertIn("CLIP (crop)", {row["row"] for row in means})
            for number, part in ((1, "memory, GiB"), (5, "small, merge")):
                self.assertIn(part, (out / f"figure-{number}.svg").read_text())
            page = (out / "paper.md").read_text()
            self.assertIn("![Figure 5", page)
            self.assertIn("- EgoSchema: not here", page)
            self.assertIn("Table 4", page)
            self.assertNotIn("Table 5", page)
            self.assertEqual(len(MEAN), 3)
            kept = sorted(path.name for path in (out / "runs").glob("*.json"))
            told = json.loads((out / "runs" / kept[0]).read_text())
            self.assertIn(told["model"], ("large", "small"))
            again = StringIO()
            with redirect_stderr(again):
                command.main(given)
            # Without a judge a set is tried again; everything else is there.
            self.assertEqual([line for line in again.getvalue().splitlines() if "MMVet" not in line and "judge" not in line],
                             [f"wrote {out / 'paper.md'}"])


if __name__ == "__main__":
    unittest.main()
