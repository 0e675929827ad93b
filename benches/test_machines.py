"""The bytes between machines on a tiny pair: a row for each schedule, the same answer, and fewer for fewer tokens."""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
DEMO = BENCHES.parent / "models/demo"


class Machines(unittest.TestCase):
    def test_merging_sends_less(self):
        command = [sys.executable, str(BENCHES / "machines.py"), "-m", DEMO / "text.gguf", "-mm", DEMO / "mmproj.gguf"]
        command += ["--image", DEMO / "images/scene-448.png", "--machines", "1", "--schedule", "balanced"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = re.findall(r"^\| (off|balanced) \| ([\d >]+) \| (\d+) \| (\d+) \| ([\d.]+) \| yes \|$", done.stdout, re.M)
        self.assertEqual([row[0] for row in rows], ["off", "balanced"], done.stdout)
        # A pair this small sends back graphs and scores more than rows.
        self.assertLess(int(rows[1][2]), int(rows[0][2]), done.stdout)
        self.assertGreater(int(rows[1][2]), 0)


if __name__ == "__main__":
    unittest.main()
