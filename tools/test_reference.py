"""Checks of the float64 reference: python -m unittest test_reference (in tools/).

That the whole forward pass is right is shown by make_hf_fixtures.py, which
stops unless the reference agrees with transformers to 1e-6.
"""

import json
import tempfile
import unittest
from pathlib import Path

import torch
from safetensors.torch import load_file

from make_model import make_pair
from reference import Reference, Schedule
from reference_model.decoder import grid_positions
from reference_model.merge import merge

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"


class MergeStep(unittest.TestCase):
    UNITS = torch.tensor([[1.0, 0.0], [2.0, 6.0], [3.0, 0.0], [4.0, 12.0], [5.0, 0.0]]).double()

    def test_weights_fall_from_the_least_attended(self):
        scores = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.3])
        out, kept, chosen = merge(self.UNITS, scores, 2)
        self.assertEqual(chosen, [1, 3, 4])
        self.assertEqual(kept, [0, 2, 4])
        # (3 * [2, 6] + 2 * [4, 12] + 1 * [5, 0]) / 6
        expected = torch.tensor([[1, 0], [3, 0], [19 / 6, 7]]).double()
        self.assertTrue(torch.allclose(out, expected))

    def test_equal_scores_go_by_index(self):
        _, kept, chosen = merge(self.UNITS, torch.tensor([0.2, 0.1, 0.2, 0.1, 0.1]), 3)
        self.assertEqual(chosen, [1, 3, 4, 0])
        self.assertEqual(kept, [0, 2])

    def test_nothing_removed_is_the_identity(self):
        out, kept, chosen = merge(self.UNITS, torch.arange(5.0).flip(0), 0)
        self.assertTrue(torch.equal(out, self.UNITS))
        self.assertEqual((kept, chosen), ([0, 1, 2, 3, 4], [4]))

    def test_an_impossible_amount_is_refused(self):
        for r in (-1, 5):
            with self.assertRaises(ValueError):
                merge(self.UNITS, torch.arange(5.0), r)


class Positions(unittest.TestCase):
    def test_survivors_keep_their_cell_and_text_goes_on_behind_the_whole_grid(self):
        positions = grid_positions(2, [1, 5], rows=2, columns=3, after=2).T.int().tolist()
        self.assertEqual(positions, [[0, 1, 2, 2, 5, 6], [0, 1, 2, 3, 5, 6], [0, 1, 3, 4, 5, 6]])


class CommittedOutputs(unittest.TestCase):
    def test_they_are_what_the_reference_computes(self):
        for name in ("siglip-qwen2", "clip-llama", "qwen2vl"):
            index = json.loads((FIXTURES / f"{name}.json").read_text())
            tensors = load_file(FIXTURES / index["tensors"])
            with tempfile.TemporaryDirectory() as folder:
                files = make_pair(Path(folder), name, "f32", "f32")
                for case in index["cases"]:
                    with self.subTest(pair=name, case=case["name"]):
                        model = Reference(*files, class_token=case["class_token"])
                        self._check(model, case, tensors)

    def _check(self, model: Reference, case: dict, tensors: dict) -> None:
        schedule = Schedule(
            encoder={s["layer"]: s["r"] for s in case["encoder"]},
            decoder={s["layer"]: s["r"] for s in case["decoder"]},
            score=case["score"],
            grid=case["grid"],
        )
        result = model.run(tensors[case["pixels"]], case["before"], case["after"], schedule)
        steps = [(s.kept, s.merged, s.into) for s in result.steps]
        self.assertEqual(steps, [(s["kept"], s["merged"], s["into"]) for s in case["steps"]])
        self.assertEqual(result.encoded.cells, case["cells"])
        expected = tensors[case["logits"]].double()
        error = torch.linalg.norm(result.logits - expected) / torch.linalg.norm(expected)
        self.assertLess(float(error), 1e-6)


if __name__ == "__main__":
    unittest.main()
