"""docs/throughput.md is what benches/throughput.py computes, and that is what one computes by hand."""

import unittest

import throughput


class Throughput(unittest.TestCase):
    def test_the_page_is_what_the_measured_files_give(self):
        self.assertEqual(throughput.PAGE.read_text(), throughput.page(), "run benches/throughput.py")

    def test_a_picture_is_its_first_token_and_the_others(self):
        cost = throughput.Cost(2.0, 0.01)
        self.assertAlmostEqual(cost.picture, 2.31)
        self.assertAlmostEqual(throughput.on_server(cost), 86_400 / 2.31 * 8 * 0.8)
        self.assertAlmostEqual(throughput.on_laptop(cost), 36_000 / 2.31 * 4 * 0.5)

    def test_operations_are_those_of_the_measured_file(self):
        for who, merged in ((throughput.OFF, False), (throughput.PAPER, True)):
            encoder, prompt = throughput.operations_of(throughput.SMALL, merged)
            self.assertAlmostEqual(encoder / 1e9, throughput.measured(who, "encoder")[1])
            self.assertAlmostEqual((encoder + prompt) / 1e9, throughput.measured(who, "first token")[1])

    def test_the_gpu_by_hand(self):
        # 7.07 billion weights without the embeddings; 2 bytes each, read once for 32 sequences at 2.01 TB/s.
        self.assertAlmostEqual(throughput.gpu(throughput.LARGE, True).step * 1e3, 7.07e9 * 2 / 32 / 2.01e12 * 1e3, delta=0.002)

    def test_merging_pays_less_the_longer_the_answer(self):
        for machines, model, off, merged in throughput.rows():
            self.assertGreater(merged, off, (machines, model))
        self.assertEqual([throughput.rounded(count) for count in (61_338, 987, 12, 1_234_567)], ["61,000", "990", "12", "1,200,000"])


if __name__ == "__main__":
    unittest.main()
