"""Tests what evidence rests on, without packages and without an engine: sets, settings, measures, files, the page."""

import json
import struct
import tempfile
import unittest
import zlib
from pathlib import Path

import numpy as np

from . import bare_tower, evidence_page, measures, rcc, settings, tower

ROOT = Path(__file__).resolve().parents[2]


def random_tower(seed: int) -> dict[str, np.ndarray]:
    """Tensors of the tower's shapes, with small random values."""
    draw = np.random.default_rng(seed).standard_normal
    shapes = {"ln1": None, "attn_q": (1, 1), "attn_k": (1, 1), "attn_v": (1, 1), "attn_out": (1, 1), "ln2": None, "ffn_up": (4, 1), "ffn_down": (1, 4)}
    width = tower.WIDTH
    found = {
        "positions": draw((37, 37, width)), "position_class": draw(width), "v.class_embd": draw(width),
        "v.patch_embd.weight": draw((width, 3, 14, 14)), "v.patch_embd.bias": draw(width),
        "v.post_ln.weight": draw(width), "v.post_ln.bias": draw(width),
    }
    for layer in range(tower.LAYERS):
        for name, shape in shapes.items():
            rows, columns = shape or (1, 1)
            found[f"v.blk.{layer}.{name}.weight"] = 0.02 * draw((rows * width, columns * width)) if shape else draw(width)
            found[f"v.blk.{layer}.{name}.bias"] = draw(rows * width)
    return found


class Settings(unittest.TestCase):
    def test_every_rule_leaves_the_share_that_its_row_says(self):
        for share in settings.SHARES:
            for rule in settings.RULES:
                self.assertEqual(576 - sum(settings.encoder(576, share, *rule)["vit_r"]), round(576 * share))
            for rule in settings.PAIR_RULES:
                both = settings.both(576, share, *rule)
                self.assertEqual(576 - sum(both["vit_r"]) - sum(both.get("llm_r", [])), round(576 * share), rule)

    def test_names_are_different(self):
        self.assertEqual(len({settings.name(*rule) for rule in settings.RULES}), len(settings.RULES))
        self.assertEqual(len({settings.pair_name(*rule) for rule in settings.PAIR_RULES}), len(settings.PAIR_RULES))


class Measures(unittest.TestCase):
    def test_cover_finds_the_most_alike_survivor(self):
        off = np.array([[1.0, 0], [0, 2], [3, 3]])
        np.testing.assert_allclose(measures.cover(off, np.array([[5.0, 0], [0, 1]])), [1, 1, 0.5**0.5])

    def test_nearest_is_another(self):
        self.assertEqual(measures.nearest(np.array([[1.0, 0], [1, 0.1], [0, 1], [0.2, 1]])).tolist(), [1, 0, 3, 2])

    def test_an_interval_holds_its_mean_and_narrows(self):
        values = np.random.default_rng(1).standard_normal(400)
        mean, low, high = measures.interval(values)
        few = measures.interval(values[:20])
        self.assertTrue(low < mean < high)
        self.assertLess(high - low, few[2] - few[1])


class Resources(unittest.TestCase):
    def test_names_and_contents_come_out(self):
        """A file made by hand after Qt's layout: the root, a folder, a plain and a compressed file."""
        names, at = b"", {}
        for name in ("data", "a.txt", "b.txt"):
            at[name] = len(names)
            names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        packed = struct.pack(">I", 5) + zlib.compress(b"bbbbb")
        data = struct.pack(">I", 3) + b"aaa" + struct.pack(">I", len(packed)) + packed
        tree = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHII", at["data"], 2, 2, 2)
        tree += struct.pack(">IHHHI", at["a.txt"], 0, 0, 0, 0) + struct.pack(">IHHHI", at["b.txt"], 1, 0, 0, 7)
        head = 20
        content = struct.pack(">4sIIII", b"qres", 1, head, head + len(tree), head + len(tree) + len(data)) + tree + data + names
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.rcc"
            path.write_bytes(content)
            self.assertEqual(list(rcc.files(path)), [("data/a.txt", b"aaa"), ("data/b.txt", b"bbbbb")])
            path.write_bytes(b"nothing of that kind at all")
            with self.assertRaisesRegex(ValueError, "no Qt resource file"):
                list(rcc.files(path))


class BareTower(unittest.TestCase):
    def test_the_identity_passes_rows_on(self):
        rows = np.random.default_rng(0).uniform(-12, 12, (5, tower.WIDTH))
        made = bare_tower.identity()
        inner = rows @ made["mm.0.weight"].T + made["mm.0.bias"]
        self.assertGreater(inner.min(), 40)  # GELU changes nothing there
        np.testing.assert_allclose((inner @ made["mm.2.weight"].T + made["mm.2.bias"])[:, : tower.WIDTH], rows, atol=1e-9)

    def test_the_class_token_must_be_told_from_patches(self):
        draw = np.random.default_rng(0).standard_normal
        patches, first = draw((600, tower.WIDTH)), draw(tower.WIDTH) + 0.01 * draw((4, tower.WIDTH))
        weights, bias = bare_tower.telling(first, patches)
        self.assertGreater((first @ weights + bias).min(), (patches @ weights + bias).max())
        with self.assertRaisesRegex(ValueError, "apart from patches"):
            bare_tower.telling(patches[:4], patches)

    def test_files_are_written_with_one_block_more(self):
        import gguf

        draw = np.random.default_rng(0).standard_normal
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "class.gguf"
            bare_tower.write_class_token(path, random_tower(0), 112, draw(tower.WIDTH) + np.zeros((4, 1)), draw((600, tower.WIDTH)))
            reader = gguf.GGUFReader(path)
            self.assertEqual(reader.fields["clip.vision.block_count"].contents(), tower.LAYERS + 1)
            shapes = {tensor.name: tuple(tensor.shape) for tensor in reader.tensors}
            self.assertEqual(shapes["v.position_embd.weight"], (tower.WIDTH, 65))
            self.assertIn(f"v.blk.{tower.LAYERS}.ffn_down.bias", shapes)
            added = (f"v.blk.{tower.LAYERS}.", "mm.")
            rounded = {tensor.name for tensor in reader.tensors if tensor.tensor_type == gguf.GGMLQuantizationType.F16}
            self.assertTrue(rounded)
            self.assertEqual([name for name in rounded if name.startswith(added)], [])


class Projector(unittest.TestCase):
    def test_the_committed_one_has_the_shapes_that_the_pair_needs(self):
        found = dict(np.load(ROOT / "models/real/projector.npz"))
        shapes = {name: value.shape for name, value in found.items()}
        self.assertEqual(shapes, {"mm.0.weight": (576, 384), "mm.0.bias": (576,), "mm.2.weight": (576, 576), "mm.2.bias": (576,)})
        self.assertTrue(all(np.isfinite(value).all() and value.std() > 0 for value in found.values()))


class Positions(unittest.TestCase):
    def test_resampling_keeps_what_is_even_and_the_table_itself(self):
        tensors = random_tower(1)
        np.testing.assert_allclose(tower.position_table(tensors, 37)[1:], tensors["positions"].reshape(-1, tower.WIDTH), atol=1e-6)
        np.testing.assert_allclose(tower.cubic(37, 24).sum(1), 1, atol=1e-12)


class Page(unittest.TestCase):
    def test_the_committed_page_is_what_the_committed_results_give(self):
        results = json.loads((ROOT / "models/real/evidence.json").read_text())
        words = (ROOT / "models/real/evidence-words.md").read_text()
        self.assertEqual((ROOT / "docs/evidence-real.md").read_text(), evidence_page.page(results, words))


if __name__ == "__main__":
    unittest.main()
