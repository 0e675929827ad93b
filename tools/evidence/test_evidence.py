"""In tools/: `python -m unittest evidence.test_evidence`; the last class needs an `illava` (target/release, or
ILLAVA) and the tiny pairs (target/test-models, or ILLAVA_TEST_MODELS)."""

import json
import os
import tempfile
import unittest
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from . import __main__ as command
from .page import page
from .runs import BUDGETS, STRATEGIES, closed_runs, runs
from .shape import Shape, from_inspection

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models/demo"
ILLAVA = os.environ.get("ILLAVA", str(ROOT / "target/release/illava"))
MODELS = Path(os.environ.get("ILLAVA_TEST_MODELS", ROOT / "target/test-models"))


class Runs(unittest.TestCase):
    paper = Shape(26, 28, 729, (3, 4, 5, 6), 2, False)

    def test_the_papers_own_schedule_is_among_them(self):
        flags = {run.key: run.flags[:-4] for run in closed_runs(self.paper)}
        self.assertEqual(closed_runs(self.paper)[0].flags[-4:], ("--positions", "closed", "--vit-sizes", "off"))
        self.assertEqual(flags["encoder budgets/361 of 729"], ("--vit-layers", "3,4,5,6", "--vit-r", "92,92,92,92"))
        self.assertEqual(flags["decoder budgets/70%"], ("--llm-layers", "2", "--llm-keep", "0.701"))
        self.assertEqual(round(361 * 0.701), 253)
        self.assertEqual(flags["decoder layers/{1, 2}"][-1], "0.707")

    def test_a_pair_with_a_schedule_of_its_own_is_asked_at_the_papers_shares_too(self):
        self.assertNotIn("budget", {run.table for run in closed_runs(self.paper)})
        both, once = (run for run in closed_runs(Shape(8, 4, 196, (4, 5, 6, 7), 2, True)) if run.table == "budget")
        self.assertEqual(both.flags[:-4], ("--vit-layers", "4,5,6,7", "--vit-r", "24,24,24,27", "--llm-layers", "2", "--llm-keep", "0.701"))
        self.assertEqual(once.flags[-5], "32,32,32,32")
        self.assertEqual((round(196 * 361 / 729), round(97 * 0.701), 196 - 4 * 32), (97, 68, 68))
        self.assertEqual(set(both.strategies + once.strategies), set(STRATEGIES))

    def test_layers_stay_inside_small_models(self):
        for shape in (Shape(8, 4, 196, (4, 5, 6, 7), 2, True), Shape(5, 3, 49, (1, 2, 3, 4), 1, False)):
            listed = runs(shape) + closed_runs(shape)
            keys = [run.key for run in listed]
            self.assertEqual(len(keys), len(set(keys)))
            for run in listed:
                for flag, count in (("--vit-layers", shape.tower_layers), ("--llm-layers", shape.text_layers)):
                    if flag in run.flags:
                        layers = [int(n) for n in run.flags[run.flags.index(flag) + 1].split(",")]
                        self.assertLess(max(layers), count)
                        self.assertEqual(layers, sorted(set(layers)))
                        if flag == "--vit-layers":
                            amounts = run.flags[run.flags.index("--vit-r") + 1].split(",")
                            self.assertEqual(len(amounts), len(layers))
                            self.assertLess(sum(int(n) for n in amounts), shape.tokens)

    def test_every_cure_is_left_out_once_and_every_share_is_asked_of_every_rule(self):
        found = {run.key: run for run in runs(self.paper)}
        tails = {run.name: run.flags[10:] for run in found.values() if run.table == "cures"}
        self.assertEqual(sorted(tails.values()), sorted([
            (), ("--vit-sizes", "off"), ("--positions", "closed"), ("--positions", "closed", "--vit-sizes", "off")]))
        shares = found["shares/0.5"].strategies
        self.assertEqual(len(shares), 4 * len(BUDGETS) - 1)

    def test_a_pair_that_cannot_merge_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "cannot merge"):
            from_inspection({"projector": {"can_merge": False}, "text": {"can_merge": True}})


def row(schedule, accuracy, total, category=""):
    return {"schedule": schedule, "category": category, "questions": 10, "failures": 0, "visual_tokens": 196,
            "visual_tokens_deepest": 98, "encoder_ms": 2.0, "prefill_ms": total / 2, "total_ms": total,
            "kv_bytes": 2048, "accuracy": [accuracy, accuracy - 0.1, accuracy + 0.1], "difference": [accuracy - 0.9, -0.2, 0.1]}


class Page(unittest.TestCase):
    def test_rows_are_named_and_compared_with_off_of_their_own_call(self):
        entry = {"table": "decoder strategies", "name": "half", "flags": [], "strategies": ["prune", "random"],
                 "sets": {"s": {"metric": "exact", "rows": [row("off", 0.9, 30), row("custom", 0.8, 20),
                                                            row("a", 0.7, 15), row("b", 0.5, 10)]}}}
        text = page({"runs": {"k": entry}, "order": ["k"], "version": "illava 1"},
                    "# Title\n\n## decoder strategies\n\nWhat it means.\n")
        self.assertTrue(text.startswith("# Title"))
        self.assertIn("| merge | 80.0 (70.0 to 90.0) | -10.0 (-20.0 to +10.0) | 196, 98 | 1.00 x | 1.50 x | 1.50 x | 2 KiB, 2 KiB |", text)
        self.assertIn("| random | 50.0", text)
        self.assertIn("| 3.00 x |", text)
        self.assertLess(text.index("| random"), text.index("What it means."))

    def test_the_committed_pages_are_what_the_committed_results_give(self):
        v0, v1, docs = DEMO, ROOT / "models/demo-v1", ROOT / "docs"
        for pair, stem, written in ((v0, "evidence", docs / "evidence.md"), (v0, "evidence-closed", docs / "evidence-closed.md"),
                                    (v1, "evidence", v1 / "evidence.md"), (v1, "evidence-closed", v1 / "evidence-closed.md")):
            results = json.loads((pair / f"{stem}.json").read_text())
            self.assertEqual(written.read_text(), page(results, (pair / f"{stem}-words.md").read_text()), written)


class Pipeline(unittest.TestCase):
    """On a tiny pair with random weights, whose numbers mean nothing."""

    def test_public_layouts_go_through_and_nothing_is_run_twice(self):
        pair, sets = MODELS / "siglip-qwen2-f32", ROOT / "tests/fixtures/eval"
        with tempfile.TemporaryDirectory() as name:
            results, written = Path(name) / "results.json", Path(name) / "evidence.md"
            given = ["-m", str(pair / "text.gguf"), "-mm", str(pair / "mmproj.gguf"), "--illava", ILLAVA,
                     "--set", str(sets / "yes_no.parquet"), "--set", str(sets / "choice.tsv"),
                     "--results", str(results), "--page", str(written), "--only", "schedules",
                     "--only", "strategies", "--only", "decoder layers", "--closed", "--", "-n", "2", "-t", "1"]
            said = StringIO()
            with redirect_stderr(said):
                command.main(given)
            self.assertIn("decoder layers/{2}, choice", said.getvalue())
            kept = json.loads(results.read_text())
            for run in kept["runs"].values():
                self.assertEqual(set(run["sets"]), {"yes_no", "choice"})
                for part in run["sets"].values():
                    self.assertEqual([r["failures"] for r in part["rows"]], [0] * len(part["rows"]))
            self.assertIn("Choice questions, 8", written.read_text())
            before, said = results.read_text(), StringIO()
            with redirect_stderr(said):
                command.main(given)
            self.assertEqual((said.getvalue(), results.read_text()), ("", before))


if __name__ == "__main__":
    unittest.main()
