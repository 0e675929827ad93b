"""The processor clock, the parts and the scaling of benches/shapes.py."""

import os
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from pathlib import Path

import shapes

TOKENS = {"text": 10, "visual": 100, "visual_after_encoder": 50,
          "visual_kv": [{"layers": [0, 1], "tokens": 50}, {"layers": [1, 4], "tokens": 30}]}


def row(arm: str, turn: int, seconds: float | None) -> dict:
    return {"shape": "a", "size": "8x8", "round": turn, "arm": arm, "report": seconds and {"tokens": TOKENS},
            "seconds": seconds and {part: seconds for part in shapes.PARTS}}


@unittest.skipUnless(sys.platform == "linux", "reads the kernel's clock of another process")
class Clock(unittest.TestCase):
    def test_it_counts_the_work_of_another_process_and_not_its_sleep(self):
        code = "import time\ntime.sleep(0.3)\nwhile time.process_time() < 0.5: pass\nprint(time.process_time(), flush=True)\ninput()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        clock = shapes.ProcessorClock(child.pid)
        told, end = float(child.stdout.readline()), time.monotonic()
        time.sleep(0.1)
        child.communicate("\n")
        clock.join()
        self.assertAlmostEqual(clock.at(end), told, delta=0.15)
        self.assertLessEqual(clock.at(end - 1e6), clock.seconds[1])
        used = os.times()
        self.assertLess(clock.seconds[-1], used.children_user + used.children_system + 0.05)


@unittest.skipUnless(sys.platform == "linux", "reads the kernel's clock of another process")
class Run(unittest.TestCase):
    """Runs of a program that works 0.2 s at the encoder, waits 0.3 s there, and works 0.1 s at the prompt."""

    PROGRAM = """
        import time
        def work(until):
            while time.process_time() < until: pass
        begun, used = time.monotonic(), time.process_time()
        work(used + 0.2)
        time.sleep(0.3 if "off" in sys.argv else 60)
        encoded = time.monotonic()
        work(used + 0.3)
        first, encoder = time.monotonic() - begun, encoded - begun
        ms = {"encoder": 1e3 * encoder, "projector": 0, "prefill": 1e3 * (first - encoder), "first_token": 1e3 * first, "total": 1e3 * first}
        print("an answer\\n" + json.dumps({"model": {}, "ms": ms}), flush=True)
        sys.exit("no" if "fail" in sys.argv else 0)
    """

    def run_it(self, arm: list[str], limit: float) -> dict | None:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "program"
            program.write_text(f"#!{sys.executable}\nimport json, sys\n{textwrap.dedent(self.PROGRAM)}")
            program.chmod(0o755)
            nothing = Path(folder) / "nothing"
            return shapes.run(program, (nothing, nothing), nothing, arm, limit)

    def test_waiting_does_not_count(self):
        found = self.run_it(["--merge", "off"], 60)["seconds"]
        for part, wanted in zip(shapes.PARTS, (0.2, 0.1, 0.3), strict=True):
            self.assertAlmostEqual(found[part], wanted, delta=0.15)

    def test_a_run_beyond_the_limit_is_ended(self):
        self.assertIsNone(self.run_it(["--merge", "paper"], 1))

    def test_a_run_that_fails_stops_the_benchmark_with_its_words(self):
        with self.assertRaisesRegex(SystemExit, "status 1: no"):
            self.run_it(["--merge", "off", "fail"], 60)


class Parts(unittest.TestCase):
    def test_each_part_has_the_time_between_its_ends(self):
        # Half of the wall is processor time.
        ms = {"total": 1010, "first_token": 1000, "prefill": 200, "encoder": 500, "projector": 100}
        found = shapes.parts(lambda wall: wall / 2, 50.0, ms)
        for part, wanted in zip(shapes.PARTS, (0.3, 0.1, 0.5), strict=True):
            self.assertAlmostEqual(found[part], wanted)

    def test_rows_count_in_each_layer_they_pass(self):
        self.assertEqual(shapes.row_layers([60, 40], [2, 28]), 2 * 60 + 26 * 40)

    def test_the_prompt_of_a_cut_model_is_scaled_and_nothing_else(self):
        # Merged at layer 1 of 4; the whole model merges at 2 of 28.
        cut = row("merged", 0, 8.0) | {"shape": "Qwen2.5-VL-7B", "seconds": {"encoder": 5.0, "prompt": 1.8, "first token": 7.3}}
        self.assertEqual(shapes.whole(cut), {"encoder": 5.0, "prompt": 1.8 * 1160 / 180, "first token": 5.5 + 1.8 * 1160 / 180})
        tokens = TOKENS | {"visual_kv": [{"layers": [0, 2], "tokens": 50}, {"layers": [2, 28], "tokens": 30}]}
        self.assertEqual(shapes.whole(cut | {"report": {"tokens": tokens}}), cut["seconds"])

    def test_a_ratio_is_of_two_runs_of_one_round(self):
        rows = [row("off", 0, 4.0), row("off", 1, 6.0), row("merged", 0, 2.0), row("merged", 1, 2.0), row("llama.cpp", 0, 9.0)]
        self.assertEqual(shapes.ratios(rows, "off", "merged", "prompt"), [2.0, 3.0])
        self.assertEqual(shapes.ratios(rows, "llama.cpp", "off", "prompt"), [2.25])

    def test_a_run_that_was_ended_leaves_its_cells_empty(self):
        lines = shapes.table([row("llama.cpp", 0, None), row("off", 0, 4.0), row("merged", 0, 2.0)]).splitlines()
        self.assertEqual(len(lines), 2 + len(shapes.PARTS))
        self.assertIn("| 100 > 50 > 30 | encoder | 1 |  | 4.00 s | 2.00 s |  |  | 2.00 x |", lines[2])


if __name__ == "__main__":
    unittest.main()
