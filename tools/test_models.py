"""Checks of the model generator: python -m unittest test_models (in tools/)."""

import hashlib
import json
import tempfile
import unittest
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from make_model import make_pair
from testmodels.file import write_tower
from testmodels.quantise import quantise, random_blocks
from testmodels.random_weights import bell, raw_bytes
from testmodels.shapes import Tower, padded_for_blocks
from testmodels.vocabulary import llava15, qwen2

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Determinism(unittest.TestCase):
    def test_a_stream_is_named_by_seed_and_tensor(self):
        self.assertEqual(raw_bytes(1, "x", 8).tobytes(), raw_bytes(1, "x", 16)[:8].tobytes())
        self.assertNotEqual(raw_bytes(1, "x", 8).tobytes(), raw_bytes(2, "x", 8).tobytes())
        self.assertNotEqual(raw_bytes(1, "x", 8).tobytes(), raw_bytes(1, "y", 8).tobytes())

    def test_pairs_are_the_files_the_fixtures_were_made_from(self):
        for name in ("siglip-qwen2", "clip-llama", "qwen2vl"):
            expected = json.loads((FIXTURES / f"{name}.json").read_text())["sha256"]
            with tempfile.TemporaryDirectory() as folder:
                for t in ("f32", "f16"):
                    for path in make_pair(Path(folder) / t, name, t, t):
                        with self.subTest(pair=name, file=f"{t}/{path.name}"):
                            self.assertEqual(digest(path), expected[f"{t}/{path.name}"])


class Blocks(unittest.TestCase):
    # Rounding to n levels over the range of a bell leaves about these errors.
    ERRORS = ((Type.Q8_0, 0.01), (Type.Q6_K, 0.03), (Type.Q4_0, 0.12), (Type.Q4_K, 0.1))

    def test_quantised_values_are_near(self):
        values = bell(1, "values", (6, 512)) * np.float32(0.3)
        for kind, limit in self.ERRORS:
            back = gguf.quants.dequantize(quantise(values, kind), kind)
            error = np.linalg.norm(back - values) / np.linalg.norm(values)
            with self.subTest(kind=kind.name):
                self.assertLess(error, limit)
                self.assertGreater(error, limit / 10)

    def test_k_blocks_keep_zeros_and_one_sided_values(self):
        zeros = np.zeros((1, 256), dtype=np.float32)
        positive = np.abs(bell(2, "positive", (2, 256)))
        for kind in (Type.Q4_K, Type.Q6_K):
            with self.subTest(kind=kind.name):
                back = gguf.quants.dequantize(quantise(zeros, kind), kind)
                self.assertEqual(float(np.abs(back).max()), 0.0)
                back = gguf.quants.dequantize(quantise(positive, kind), kind)
                self.assertLess(np.linalg.norm(back - positive) / np.linalg.norm(positive), 0.1)

    def test_random_blocks_have_the_spread_asked_for(self):
        for kind in (Type.Q8_0, Type.Q4_0, Type.Q5_0, Type.Q4_K, Type.Q6_K):
            data = random_blocks(3, "blocks", (64, 512), kind, 0.05)
            values = gguf.quants.dequantize(data, kind)
            with self.subTest(kind=kind.name):
                self.assertEqual(values.shape, (64, 512))
                self.assertAlmostEqual(float(values.std()) / 0.05, 1.0, delta=0.05)
                self.assertLess(abs(float(values.mean())) / 0.05, 0.15)


class Padding(unittest.TestCase):
    TOWER = Tower("siglip", 16, 8, 32, 2, 2, 48, 1e-6, 32, 32)

    def test_whole_blocks_are_left_alone(self):
        tower = padded_for_blocks(self.TOWER)
        self.assertEqual((tower.mlp, tower.mlp_padded_from), (64, 48))
        self.assertIs(padded_for_blocks(tower), tower)

    def test_padding_is_zero_and_named_in_the_file(self):
        for kind in ("q8_0", "q4_0"):
            for codes in (False, True):
                with self.subTest(kind=kind, codes=codes), tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "tower.gguf"
                    write_tower(path, padded_for_blocks(self.TOWER), kind, 1, "padded", codes)
                    reader = gguf.GGUFReader(path)
                    key = "illava.vision.mlp_padded_from"
                    self.assertEqual(reader.fields[key].contents(), 48)
                    t = {
                        x.name: gguf.quants.dequantize(x.data, x.tensor_type)
                        for x in reader.tensors
                    }
                    up, bias = t["v.blk.0.ffn_up.weight"], t["v.blk.0.ffn_up.bias"]
                    down = t["v.blk.0.ffn_down.weight"]
                    for used, padding in ((up[:48], up[48:]), (bias[:48], bias[48:]), (down[:, :48], down[:, 48:])):
                        self.assertEqual(float(np.abs(padding).max()), 0.0)
                        self.assertGreater(float(np.abs(used).max()), 0.0)


class Vocabularies(unittest.TestCase):
    def test_every_merge_makes_a_token_and_no_token_is_twice(self):
        for vocabulary in (qwen2(384), llava15(384)):
            tokens = vocabulary.tokens()
            self.assertEqual(len(tokens), 384)
            self.assertEqual(len(set(tokens)), 384)
            self.assertEqual(len(vocabulary.token_types()), 384)
            for a, b in vocabulary.merges:
                self.assertIn(a, tokens)
                self.assertIn(b, tokens)
                self.assertIn(a + b, tokens)
            self.assertEqual(tokens[vocabulary.id(vocabulary.eos)], vocabulary.eos)

    def test_too_small_a_vocabulary_is_refused(self):
        with self.assertRaisesRegex(ValueError, "do not fit a vocabulary of 300"):
            qwen2(300).tokens()


if __name__ == "__main__":
    unittest.main()
