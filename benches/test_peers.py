"""The comparison with peers, without the peers: operations, the commands that a peer answers, the table."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import numpy  # noqa: E402
from testmodels.shapes import TIMING_DECODERS, TIMING_TOWERS, Decoder, Tower  # noqa: E402

from peers import child, comparison, operations  # noqa: E402


class Operations(unittest.TestCase):
    def test_an_encoder_is_its_products_and_its_attention(self):
        tower = Tower("siglip", 6, 2, 4, 2, 3, 10, 1e-6, 5, 7)
        layer = sum(2 * rows * inputs * outputs for rows, inputs, outputs in
                    [(9, 4, 4)] * 4 + [(9, 4, 10), (9, 10, 4)] + [(9, 2, 9), (9, 9, 2)] * 2)
        ends = 2 * 9 * (3 * 2 * 2) * 4 + 2 * 9 * 4 * 5 + 2 * 9 * 5 * 7
        self.assertEqual(operations.encoder(tower), 2 * layer + ends)

    def test_merging_halves_the_encoder(self):
        tower = TIMING_TOWERS["siglip-so400m"]
        self.assertAlmostEqual(operations.encoder(tower) / operations.encoder(tower, merged=True), 1.75, delta=0.05)

    def test_a_prompt_counts_keys_of_fewer_heads_and_half_of_its_attention(self):
        decoder = Decoder("qwen2", 8, 3, 4, 2, 20, 50, 64, 1e6, 1e-6, tied=True)
        products = [(8, 8), (8, 8), (8, 4), (8, 4), (8, 20), (8, 20), (20, 8)]

        def layer(rows):
            pairs = rows * rows / 2
            return sum(2 * rows * inputs * outputs for inputs, outputs in products) + 2 * 2 * pairs * 8

        self.assertEqual(operations.prompt(decoder, 6), 3 * layer(6))
        self.assertEqual(operations.prompt(decoder, 6, text=4), 3 * layer(10) + 2 * 8 * 50)
        self.assertEqual(operations.prompt(decoder, 6, removed=2), 2 * layer(6) + layer(4))

    def test_every_pair_has_its_shapes_and_kinds_of_numbers(self):
        for pair in comparison.PAIRS.values():
            self.assertIn(pair.tower, TIMING_TOWERS)
            self.assertIn(pair.text, TIMING_DECODERS)
            self.assertLessEqual({*pair.types, *pair.peer_types}, set(comparison.NUMBERS))


class FakePeer:
    """Three rows of a picture, two numbers wide; a text model that remembers how many rows it got."""

    got = 0

    def pixels(self):
        return (1, 3, 4, 4)

    def width(self):
        return 2

    def encode(self, pixels):
        return numpy.zeros((1, 3, 2), numpy.float32)

    def prefill(self, rows):
        self.got = rows.shape[1]
        return rows[:, -1:]


class Commands(unittest.TestCase):
    def test_a_peer_gets_the_rows_that_bench_pair_gets(self):
        peer = FakePeer()
        self.assertEqual(child.answer(peer, "encode off")["rows"], 3)
        self.assertEqual(peer.got, 0)
        child.answer(peer, "prefill 5 off")
        self.assertEqual(peer.got, 5)
        child.answer(peer, "first off off")
        self.assertEqual(peer.got, 3 + child.QUESTION)

    def test_a_peer_does_not_merge(self):
        for command in ("encode 3:92", "first off 2:108", "generate 4"):
            with self.assertRaises(ValueError):
                child.answer(FakePeer(), command)

    def test_a_result_that_is_not_finite_is_refused(self):
        peer = FakePeer()
        peer.prefill = lambda rows: rows * numpy.nan
        with self.assertRaises(ValueError):
            child.answer(peer, "prefill 5 off")


class Table(unittest.TestCase):
    def test_a_line_says_its_share_of_the_limit(self):
        peaks = {1: [{"f32": 100, "bf16": 0, "int16": 200, "int8": 400, "gigabytes": 10}]}
        lines = [comparison.Line("0.5B", "encoder", "illava, merging off, f16", 1, [2.0, 1.0, 3.0], [0.9, 1.1, 1.0], 300, 200, "int16"),
                 comparison.Line("0.5B", "first token", "OpenVINO, bf16 + int4", 1, [1.0], [1.0], 300, 0, "")]
        found = comparison.table(lines, peaks).splitlines()
        self.assertEqual(found[2], "| 1 | 100 | - | 200 | 400 | 10.0 GB/s |")
        self.assertEqual(found[6], "| 0.5B | encoder | illava, merging off, f16 | 1 | 2.00 | 1.00 | 0.90 to 1.10 | 150 | 75 % (int16) |")
        self.assertEqual(found[7], "| 0.5B | first token | OpenVINO, bf16 + int4 | 1 | 1.00 | 1.00 |  | 300 |  |")

    def test_a_limit_is_that_of_instructions_the_processor_has(self):
        with_bf16, without = [{"bf16": 200, "int8": 400}], [{"bf16": 0, "int8": 400}]
        self.assertEqual(comparison.kind_of("off", "f16", with_bf16), "bf16")
        self.assertEqual(comparison.kind_of("off", "f16", without), "int16")
        self.assertEqual(comparison.kind_of("stock", "f16", without), "f32")
        self.assertEqual(comparison.kind_of("OpenVINO", "bf16", without), "f32")
        self.assertEqual(comparison.kind_of("off", "q4_0", without), "int8")


if __name__ == "__main__":
    unittest.main()
