"""The benchmark's driver on tiny models: every group gives its rows, and a file with all that is needed to judge them.

Times are not looked at. Sizes are: with --quick the driver itself fails if one is not what it should be.
"""

import json
import math
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from measure import table
from measure.rounds import Goal, Row

BENCHES = Path(__file__).resolve().parent


class Quick(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run.json"
            cls.done = subprocess.run(
                [sys.executable, str(BENCHES / "engine.py"), "--quick", "--out", str(out)], capture_output=True, text=True
            )
            cls.run_file = json.loads(out.read_text()) if out.exists() else None

    def setUp(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        self.rows = {row["what"]: row for row in self.run_file["rows"]}

    def test_every_group_has_its_rows(self):
        for what in (
            "encoder tiny F16, 100 → 48: stock / merged",
            "encoder tiny F16: off / stock",
            "scoring, planning and merging, part of that encode",
            "image prefill tiny F16: off / stock",
            "generation tiny F16, step: stock / merged",
            "time to first token, tower tiny F16, text tiny F16: stock / merged",
            "encoder in Q8_0: stock / merged",
            "time to first token, tower tiny F16, text tiny Q8_0: stock / merged",
            "visual KV bytes large tiny F16: merged / off",
            "compute buffers tiny F16, -c 4096, n_ubatch 512: image of 2880 / of 576 tokens",
        ):
            self.assertIn(what, self.rows)
        repacked = [what for what in self.rows if "repacked" in what]
        self.assertTrue(repacked or "no row for a repacked tower" in self.done.stderr)
        self.assertEqual(len(self.rows), len(self.run_file["rows"]), "two rows have one name")

    def test_a_row_is_made_of_its_rounds(self):
        for what, row in self.rows.items():
            self.assertEqual(len(row["values"]), 1, what)
            self.assertTrue(math.isfinite(row["median"]) and row["median"] > 0, what)
            self.assertEqual(row["goal"] is None, row["unit"] != "of", what)
            for name, times in row["details"].get("times", {}).items():
                self.assertTrue(times["ms"] > 0 and times["cpu_ms"] > 0, f"{what}: {name}")
            self.assertIn(f"| {what} | 1 |", self.done.stdout)

    def test_the_file_says_where_it_was_measured(self):
        self.assertEqual(self.run_file["benchmark"], "engine")
        self.assertEqual(self.run_file["settings"]["rounds"], 1)
        self.assertTrue(self.run_file["machine"]["processor"])
        self.assertGreater(self.run_file["machine"]["cores"], 0)

    def test_fewer_visual_tokens_take_less_memory(self):
        kv = self.rows["visual KV bytes large tiny F16: merged / off"]
        self.assertLess(kv["median"], 0.37)
        used = [segment["used"] for segment in kv["details"]["merged"]["segments"]]
        self.assertEqual(len(used), 2)
        self.assertGreater(used[0], used[1])


class Table(unittest.TestCase):
    def test_a_missed_goal_is_said(self):
        rows = [
            Row("a", 1, [1.9, 2.1, 2.0], Goal(low=2.2)),
            Row("b", 2, [0.011], Goal(high=0.03), unit="share"),
            Row("c", 1, [1.01, 0.99, 1.0], Goal(0.98, 1.02)),
        ]
        lines = table.markdown(rows).splitlines()[2:]
        self.assertEqual(lines[0], "| a | 1 | 2.00x | 1.90x to 2.10x | ≥ 2.2 | **missed** |")
        self.assertEqual(lines[1], "| b | 2 | 1.10 % |  | ≤ 3 % | met |")
        self.assertEqual(lines[2], "| c | 1 | 1.000 | 0.990 to 1.010 | 0.98 to 1.02 | met |")


if __name__ == "__main__":
    unittest.main()
