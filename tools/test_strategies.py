"""Checks of the comparison strategies' reference: python -m unittest test_strategies (in tools/)."""

import json
import tempfile
import unittest
from math import cos, radians, sin
from pathlib import Path

import torch
from safetensors.torch import load_file

from make_model import make_pair
from reference import Reference, Schedule
from reference_model.arithmetic import EXACT, SINGLE, Arithmetic
from reference_model.strategies import Inputs, Rule, bipartite, decide, drawn, greedy, kmeans, prumerge, reduce

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"


def fan(*degrees: float) -> torch.Tensor:
    """Directions in a plane."""
    return torch.tensor([[cos(radians(a)), sin(radians(a))] for a in degrees]).double()


def ones(n: int) -> torch.Tensor:
    return torch.ones(n, dtype=torch.float64)


class ByHand(unittest.TestCase):
    def test_bipartite_merges_the_pairs_most_alike_of_two_halves(self):
        # A = 0, 2, 4 at 0, 40, 90 degrees; B = 1, 3, 5 at 50, 88, 10.
        f = fan(0, 50, 40, 88, 90, 10)
        self.assertEqual(bipartite(f, ones(6), ones(6), 1), [0, 1, 2, 3, 3, 5])
        self.assertEqual(bipartite(f, ones(6), ones(6), 3), [5, 1, 1, 3, 3, 5])

    def test_more_than_half_takes_another_round(self):
        f = fan(0, 50, 40, 88, 90, 10)
        # Left are 1, 3 and 5 at 45, 89 and 5 degrees: 3 alone is in B, and 1 is nearer to it than 5.
        into = bipartite(f, ones(6), ones(6), 4)
        self.assertEqual(len(set(into)), 2)
        self.assertEqual(into[1], 3)

    def test_the_heavier_of_a_pair_stays(self):
        f, heavy = fan(0, 10, 24), torch.tensor([1.0, 9.0, 1.0]).double()
        self.assertEqual(greedy(f, ones(3), heavy, 1), [1, 1, 2])
        self.assertEqual(greedy(f, ones(3), ones(3), 1), [0, 0, 2])

    def test_greedy_takes_the_most_alike_first(self):
        self.assertEqual(greedy(fan(0, 30, 90, 91, 60), ones(5), ones(5), 1), [0, 1, 2, 2, 4])
        self.assertEqual(greedy(fan(0, 30, 90, 91, 58), ones(5), ones(5), 2), [0, 1, 2, 2, 1])

    def test_kmeans_finds_the_clusters_and_fills_the_empty(self):
        f = fan(0, 1, 2.5, 90, 91, 92.5, 180, 181, 182.5)
        self.assertEqual(kmeans(f, ones(9), ones(9), 6), [1, 1, 1, 4, 4, 4, 7, 7, 7])
        # Six tokens alike: every cluster keeps one all the same.
        self.assertEqual(len(set(kmeans(fan(*[5] * 6), ones(6), ones(6), 2))), 4)

    def test_prumerge_keeps_outliers_and_fills_up_evenly(self):
        s = torch.tensor([1.0, 1, 1, 9, 1, 1, 1, 8]).double()
        f = fan(0, 10, 20, 30, 40, 52, 60, 70)
        self.assertEqual(prumerge(f, s, ones(8), 6), [3, 3, 3, 3, 3, 7, 7, 7])
        self.assertEqual(prumerge(f, s, ones(8), 7), [3] * 8)
        self.assertEqual(sorted(set(prumerge(f, s, ones(8), 4))), [1, 3, 5, 7])

    def test_assign_takes_the_least_attended_into_the_most_alike(self):
        s = torch.tensor([0.5, 0.1, 0.4, 0.2, 0.9]).double()
        inputs = Inputs(fan(0, 79, 70, 12, 90), s, ones(5), 2, 0, 2)
        # 1 and 3 go, in this order; of 0, 2 and 4, the token 1 is nearest to 2, and 3 to 0.
        self.assertEqual(decide(Rule("assign"), inputs), ([0, 2, 2, 0, 4], [1, 3]))

    def test_a_token_of_two_counts_as_two_alike(self):
        q, k, v = (torch.randn(2, 3, 4, dtype=torch.float64) for _ in range(3))
        sized, _ = Arithmetic(EXACT).attention(q, k, v, counts=torch.tensor([1.0, 2.0, 1.0]).double())
        twice = [0, 1, 1, 2]
        plain, _ = Arithmetic(EXACT).attention(q, k[:, twice], v[:, twice])
        self.assertTrue(torch.allclose(sized, plain, atol=1e-12))

    def test_values_are_weighted_by_size_or_by_attention(self):
        x = torch.tensor([[0.0], [4.0], [10.0]]).double()
        sizes = torch.tensor([3.0, 1.0, 1.0]).double()
        inputs = Inputs(fan(0, 1, 90), torch.tensor([0.1, 0.3, 0.6]).double(), sizes, 1, 0, 2)
        values, kept, gone, groups, after = reduce(Rule("greedy"), x, inputs)
        self.assertEqual((values.flatten().tolist(), kept, gone), ([1.0, 10.0], [0, 2], [1]))
        self.assertEqual((groups, after.tolist()), ([[1, 0]], [4.0, 1.0]))
        values, kept, gone, groups, _ = reduce(Rule("prune"), x, inputs)
        self.assertEqual((values.flatten().tolist(), kept, gone, groups), ([4.0, 10.0], [1, 2], [0], []))

    def test_a_seed_repeats_and_others_differ(self):
        self.assertEqual(drawn(7, 0, 2, 50), drawn(7, 0, 2, 50))
        self.assertEqual(sorted(drawn(7, 0, 2, 50)), list(range(50)))
        others = [drawn(8, 0, 2, 50), drawn(7, 1, 2, 50), drawn(7, 0, 3, 50)]
        self.assertTrue(all(other != drawn(7, 0, 2, 50) for other in others))
        inputs = Inputs(fan(*range(9)), ones(9), ones(9), 4, 1, 3)
        self.assertEqual(decide(Rule("random", 5), inputs)[1], drawn(5, 1, 3, 9)[:4])


class CommittedOutputs(unittest.TestCase):
    def test_they_are_what_the_reference_computes(self):
        index = json.loads((FIXTURES / "strategies.json").read_text())
        tensors = load_file(FIXTURES / index["tensors"])
        with tempfile.TemporaryDirectory() as folder:
            for name in {case["pair"] for case in index["cases"]}:
                files = make_pair(Path(folder) / name, name, "f32", "f32")
                models = {rounding: Reference(*files, rounding) for rounding in (EXACT, SINGLE)}
                for case in index["cases"]:
                    # Cases for one type of file have that type's roundings.
                    model = models[SINGLE if case.get("type") == "f32" else EXACT]
                    with self.subTest(case["name"]):
                        if case["pair"] == name:
                            self._check(model, case, tensors)

    def _check(self, model: Reference, case: dict, tensors: dict) -> None:
        schedule = Schedule(
            encoder={s["layer"]: s["r"] for s in case["encoder"]},
            decoder={s["layer"]: s["r"] for s in case["decoder"]},
            grid=case["grid"],
            rule=Rule(case["strategy"], case["seed"], case["count_sizes"], case["tower_score"] == "class"),
        )
        result = model.run(tensors[case["pixels"]], case["before"], case["after"], schedule)
        steps = [(s.kept, s.merged, s.groups) for s in result.steps]
        self.assertEqual(steps, [(s["kept"], s["merged"], s["groups"]) for s in case["steps"]])
        expected = tensors[case["logits"]].double()
        error = torch.linalg.norm(result.logits - expected) / torch.linalg.norm(expected)
        self.assertLess(float(error), 1e-6)


if __name__ == "__main__":
    unittest.main()
