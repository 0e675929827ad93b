"""A LLaVA-OneVision whose file lists no resolutions, as the demo's trainer exports it: every picture is one view, pairs
of them have a newline behind each, and videos are taken.  Needs an `illava` (target/release, or ILLAVA) and the tiny
pairs (target/test-models, or ILLAVA_TEST_MODELS)."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ILLAVA = os.environ.get("ILLAVA", str(ROOT / "target/release/illava"))
PAIR = Path(os.environ.get("ILLAVA_TEST_MODELS", ROOT / "target/test-models")) / "hf-llava_onevision-f32"
PICTURE = str(ROOT / "models/demo/images/crowd-448.png")


class OneView(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        listed = (PAIR / "mmproj.gguf").read_bytes()
        # Under a name of the same length that nobody reads, the list is not there.
        without = listed.replace(b"clip.vision.image_grid_pinpoints", b"clip.vision.image_grid_pinpointz")
        self.assertNotEqual(without, listed)
        projector = Path(folder.name) / "mmproj.gguf"
        projector.write_bytes(without)
        self.report = Path(folder.name) / "report.json"
        self.model = ["-m", str(PAIR / "text.gguf"), "--mmproj", str(projector)]

    def told(self, *arguments):
        return subprocess.run([ILLAVA, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout

    def rows(self, *shown):
        self.told("run", *self.model, *shown, "-p", "a", "-n", "1", "--merge", "off", "--report", str(self.report))
        return json.loads(self.report.read_text())["tokens"]["visual_after_encoder"]

    def test_inspect_says_so(self):
        pair = json.loads(self.told("inspect", *self.model, "--size", "448x448", "--json"))
        self.assertEqual((pair["projector"]["cuts"], pair["projector"]["takes_videos"]), ("the whole alone", True))
        self.assertEqual(pair["projector"]["missing"], [])
        self.assertEqual(pair["pictures"][0]["tokens"], 49)

    def test_pictures_and_pairs_have_their_rows(self):
        self.assertEqual(self.rows("--image", PICTURE), 49)
        self.assertEqual(self.rows("--image", PICTURE, "--image", PICTURE), 2 * 50)


if __name__ == "__main__":
    unittest.main()
