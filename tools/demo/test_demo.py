"""`python -m unittest demo.test_demo` in tools/."""

import json
import tempfile
import unittest
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import gguf
import numpy as np
import torch

from . import attention, batches, contrast, dense, evaluate, export, losses, questions, scenes, tasks, train, vocabulary
from .geometry import GEOMETRIES
from .model import Llava

TINY, PAPER = GEOMETRIES["tiny"], GEOMETRIES["paper"]


def tiny():
    torch.manual_seed(0)
    return Llava(TINY).eval()


class Geometries(unittest.TestCase):
    def test_the_papers_geometry_is_what_is_asked_for(self):
        self.assertEqual((PAPER.side, PAPER.tokens, PAPER.pooled), (216, 729, 14))
        parameters = sum(p.numel() for p in Llava(PAPER).parameters())
        self.assertLessEqual(2 * parameters, 60e6, "bytes in F16")
        for g in GEOMETRIES.values():
            self.assertNotEqual(g.tower_width, g.tower_mlp)
            self.assertLess(max(g.gated), g.tower_layers)
            self.assertGreater(g.frames, 2, "two views are a pair")


class Words(unittest.TestCase):
    def test_every_word_is_one_token_wherever_it_may_stand(self):
        for word in vocabulary.SHAPES + vocabulary.COLORS:
            self.assertEqual(len(vocabulary.encode(f" {word}")), 1)
        self.assertEqual(len(vocabulary.encode("What color is the star?")), 6)

    def test_the_merges_in_order_make_the_known_tokens(self):
        """Runs BPE itself, lowest rank first, over what the questions are made of."""
        ranks = {pair: i for i, pair in enumerate(vocabulary.MERGES)}
        words = {vocabulary.TOKENS[i] for i in range(256, vocabulary.ORDINARY)}
        full = {w for w in words if not any(o != w and o.startswith(w) for o in words)}
        for word in full:
            parts = list(word)
            while True:
                pairs = [(ranks[p], i) for i, p in enumerate(zip(parts, parts[1:])) if p in ranks]
                if not pairs:
                    break
                at = min(pairs)[1]
                parts[at:at + 2] = [parts[at] + parts[at + 1]]
            self.assertEqual(parts, [word])

    def test_questions_and_answers_can_be_written_and_read_back(self):
        rng = np.random.default_rng(4)
        for make in (batches.scene_item, batches.dense_item, batches.pair_item, batches.video_item):
            for _ in range(20):
                for q in make(rng, PAPER if make is batches.dense_item else TINY).questions:
                    ids = vocabulary.encode(q.spoken)
                    self.assertNotIn("unused", "".join(vocabulary.TOKENS[i] for i in ids))
                    self.assertEqual(vocabulary.decode(ids).strip(), q.answer)
                    self.assertEqual(vocabulary.decode(vocabulary.encode(q.text)), q.text)


class Tasks(unittest.TestCase):
    star = scenes.Thing("star", "red", 20, 30, 9)
    ring = scenes.Thing("ring", "blue", 80, 32, 9)
    scene = scenes.Scene((star, ring), 1, 1.0)

    def asked(self, ask, *given):
        rng = np.random.default_rng(0)
        return {q.text: q.answer for q in (ask(rng, *given) for _ in range(300)) if q}

    def test_relations_are_asked_where_they_are_clear(self):
        found = self.asked(tasks.scene_question, self.scene, "relation")
        self.assertEqual(found, {"Is the star left of the ring?": "yes", "Is the ring left of the star?": "no",
                                 "Is the star right of the ring?": "no", "Is the ring right of the star?": "yes"})

    def test_pairs_are_compared(self):
        one = scenes.Scene((self.star,), 2, 1.0)
        found = self.asked(tasks.pair_question, self.scene, one)
        self.assertEqual(found["Which image has more objects?"], "first")
        self.assertEqual(found["Which image has a red star?"], "both")
        self.assertEqual(found["Which image has a blue ring?"], "first")
        self.assertIn("neither", found.values())

    def test_a_moving_thing_moves_as_it_is_said_to(self):
        rng = np.random.default_rng(1)
        for _ in range(30):
            frames, thing, direction = scenes.moving(rng, 4, 7.0)
            first, last = frames[0].things[-1], frames[-1].things[-1]
            dx, dy = scenes.DIRECTIONS[direction]
            self.assertGreater((last.x - first.x) * dx + (last.y - first.y) * dy, 10)
            self.assertEqual((first.shape, first.color), (thing.shape, thing.color))
            for t in (first, last):
                self.assertTrue(t.radius < t.x < scenes.UNIT - t.radius and t.radius < t.y < scenes.UNIT - t.radius)

    def test_charts_and_tables_are_read(self):
        chart = dense.Chart((("red", 4), ("blue", 7), ("cyan", 1)))
        found = self.asked(tasks.dense_question, chart)
        self.assertEqual(found["How high is the red bar?"], "four")
        self.assertEqual(found["What color is the highest bar?"], "blue")
        self.assertEqual(found["What color is the lowest bar?"], "cyan")
        table = dense.Table("AC", "HK", (("12", "34"), ("56", "78")))
        self.assertEqual(self.asked(tasks.dense_question, table)["Read cell K A"], "56")

    def test_a_chart_shows_its_heights(self):
        chart = dense.Chart((("red", 3), ("green", 9), ("blue", 6)))
        picture = dense.render(np.random.default_rng(0), chart, 216).astype(int)
        rgb = np.array([scenes.RGB[color] for color, _ in chart.bars])
        heights = [(np.abs(picture - color).max(2) < 40).any(1).sum() for color in rgb]
        unit = (216 - 2 * (216 // 14)) / dense.MOST
        for (_, height), seen in zip(chart.bars, heights):
            self.assertAlmostEqual(seen / unit, height, delta=0.4)

    def test_everything_that_is_drawn_fits(self):
        rng = np.random.default_rng(2)
        for g in (TINY, PAPER):
            for _ in range(40):
                picture = batches.dense_picture(rng, g)
                self.assertEqual(dense.render(rng, picture, g.side).shape, (g.side, g.side, 3))

    def test_facts_are_true_or_false_of_the_picture(self):
        rng = np.random.default_rng(3)
        true, false = tasks.scene_facts(rng, self.scene)
        self.assertIn("a red star", true)
        self.assertIn("a star top left", true)
        self.assertIn("two objects", true)
        self.assertTrue(false and not true & set(false))
        items = [batches.scene_item(rng, TINY), batches.dense_item(rng, TINY)]
        ids, holds = batches.facts(rng, items)
        self.assertEqual(holds.shape, (2, len(ids)))
        self.assertLessEqual(len(ids), batches.MOST_FACTS)
        for text, column in zip(ids, holds.T):
            words = vocabulary.decode([int(i) for i in text if i != vocabulary.PAD]).strip()
            self.assertEqual([words in item.facts[0] for item in items], [bool(h) for h in column])


class Losses(unittest.TestCase):
    def test_texts_are_told_apart_once_they_are_learned(self):
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        items = [batches.scene_item(rng, TINY) for _ in range(4)]
        ids, holds = batches.facts(rng, items)
        head = contrast.Contrast(TINY, batches.FACT_TOKENS)
        tokens = torch.randn(4, 20, TINY.tower_width)
        optimizer = torch.optim.Adam(head.parameters(), 3e-3)
        first = None
        for _ in range(60):
            loss, logits = head(tokens, ids, holds)
            first = first or (loss.item(), contrast.ranked(logits, holds))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.assertLess(loss.item(), 0.6 * first[0])
        self.assertGreater(contrast.ranked(logits, holds), max(0.8, first[1]))

    def test_an_answer_is_right_only_as_a_whole(self):
        batch = {"targets": torch.tensor([[5, 6, -100, 7]]), "segments": torch.tensor([[0, 0, -1, 1]])}
        logits = torch.full((3, 10), -9.0)
        for row, best in enumerate((5, 1, 7)):
            logits[row, best] = 9.0
        _, right = losses.answers(logits, batch)
        self.assertEqual(right[0, :2].tolist(), [0.0, 1.0])

    def test_the_area_is_one_where_things_are_first(self):
        shares = np.array([1, 0.5, 0, 0, 0.05])
        self.assertEqual(attention.area(np.array([5.0, 4, 1, 2, 9]), shares), 1.0)
        self.assertEqual(attention.area(np.array([1.0, 0, 3, 2, 9]), shares), 0.0)
        self.assertTrue(np.isnan(attention.area(np.ones(5), np.zeros(5))))


class Spans(unittest.TestCase):
    def test_pictures_pairs_and_videos_are_arranged_as_onevision_does(self):
        model = tiny()
        with torch.no_grad():
            tokens = torch.randn(2, 3, TINY.tokens, TINY.tower_width)
            alone, pair, video = (model.rows(tokens[:, :n]) for n in (1, 2, 3))
        self.assertEqual(alone.shape[1], 196)
        self.assertEqual(pair.shape[1], 2 * 197)
        self.assertEqual(video.shape[1], 3 * 49 + 1)
        self.assertTrue(torch.equal(pair[:, :196], alone))
        for row in (pair[0, 196], pair[0, -1], video[0, -1]):
            self.assertTrue(torch.equal(row, model.newline))
        frame = model.projector(tokens[0, 0]).view(7, 2, 7, 2, -1).mean((1, 3)).flatten(0, 1)
        torch.testing.assert_close(video[0, :49], frame)

    def test_packed_questions_do_not_see_each_other(self):
        model = tiny()
        rng = np.random.default_rng(5)
        item = batches.scene_item(rng, TINY)
        alone = batches.stack([batches.Item(item.views, item.questions[1:2])])[0]
        both = batches.stack([batches.Item(item.views, item.questions[:2])])[0]
        with torch.no_grad():
            rows = model.rows(model.tower(both["views"][:, 0])[0][:, None])
            packed, single = (model.answer(rows, batch)[0] for batch in (both, alone))
        torch.testing.assert_close(packed[-len(single):], single, atol=1e-5, rtol=1e-4)


class Training(unittest.TestCase):
    def arguments(self, folder, *more):
        return train.arguments(["--out", str(folder), "--geometry", "tiny", "--device", "cpu", "--batch", "8",
                                "--threads", "1", "--tower-steps", "2", "--measure", "100", *more])

    def test_it_runs_through_both_stages_and_goes_on_where_it_was(self):
        with tempfile.TemporaryDirectory() as name, redirect_stderr(StringIO()):
            folder = Path(name)
            train.run(self.arguments(folder, "--steps", "1", "--gate", "0"))
            state = torch.load(folder / "checkpoint.pt")
            self.assertEqual((state["step"], state["first_stage"]), (3, False))
            train.run(self.arguments(folder, "--steps", "2", "--gate", "0"))
            self.assertEqual(torch.load(folder / "checkpoint.pt")["step"], 4)
            lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
            self.assertEqual([line["stage"] for line in lines], [1, 2, 2])
            self.assertEqual(len(lines[0]["tower_areas"]), TINY.tower_layers)
            self.assertFalse((folder / "checkpoint.partial").exists())

    def test_a_tower_that_does_not_attend_ends_it(self):
        with tempfile.TemporaryDirectory() as name:
            with self.assertRaisesRegex(SystemExit, "does not attend"):
                train.run(self.arguments(Path(name), "--steps", "1", "--gate", "1.1"))

    def test_a_tower_that_stops_attending_is_put_back(self):
        with tempfile.TemporaryDirectory() as name:
            trainer = train.Trainer(self.arguments(Path(name), "--steps", "5", "--gate", "0"))
            trainer.step = 3
            self.assertTrue(trainer.gate()[2])
            before = trainer.model.tower.patch.weight.clone()
            with torch.no_grad():
                trainer.model.tower.patch.weight.zero_()
            trainer.a.gate = 1.1
            self.assertFalse(trainer.gate()[2])
            self.assertTrue(trainer.frozen)
            self.assertTrue(torch.equal(trainer.model.tower.patch.weight, before))

    def test_a_seed_gives_the_same_batches_and_another_others(self):
        first, again, other = (next(iter(batches.Batches(TINY, 8, True, seed, 0))) for seed in (1, 1, 2))
        for (a, _), (b, _) in zip(first, again):
            self.assertTrue(all(torch.equal(a[name], b[name]) for name in a))
        self.assertFalse(torch.equal(first[0][0]["views"], other[0][0]["views"]))


class Sets(unittest.TestCase):
    def test_the_full_set_is_large_and_the_same_each_time(self):
        asked = sum(count * most for sort, (count, most, _) in questions.SORTS.items() if sort != "video")
        self.assertGreaterEqual(asked, 5000)
        with tempfile.TemporaryDirectory() as name:
            folders = [Path(name) / n for n in "ab"]
            for folder in folders:
                questions.write(folder, TINY, share=0.02)
            texts = [(folder / "questions.jsonl").read_text() for folder in folders]
            self.assertEqual(*texts)
            items = questions.read(folders[0])
            drawn = [item for _, item in questions.draw(TINY, 0.02)]
            self.assertEqual([item.questions for item in items], [item.questions for item in drawn])
            for one, other in zip(items, drawn):
                np.testing.assert_array_equal(one.views, other.views)
            found = evaluate.exact(tiny(), items)
            self.assertEqual(len(found), sum(len(item.questions) for item in items))


class Export(unittest.TestCase):
    def test_the_pair_says_that_it_is_a_onevision(self):
        with tempfile.TemporaryDirectory() as name, redirect_stderr(StringIO()):
            model = tiny()
            export.export(model, Path(name), kind="f32")
            projector = gguf.GGUFReader(Path(name) / "mmproj.gguf")
            text = gguf.GGUFReader(Path(name) / "text.gguf")
        keys = {key: field.contents() for key, field in projector.fields.items()}
        self.assertEqual(keys["illava.vision.family"], "llava_onevision")
        self.assertEqual(keys["illava.vision.image_aspect_ratio"], "anyres_max_9")
        self.assertNotIn("clip.vision.image_grid_pinpoints", keys)
        self.assertEqual(keys["clip.vision.block_count"], TINY.tower_layers)
        known = vocabulary.TOKENS[:vocabulary.ORDINARY + len(vocabulary.SPECIAL)]
        self.assertEqual(text.fields["tokenizer.ggml.tokens"].contents()[:len(known)], known)
        tensors = {t.name: t.data for t in (*projector.tensors, *text.tensors)}
        np.testing.assert_array_equal(tensors["v.image_newline"], model.newline.detach().numpy())
        np.testing.assert_array_equal(tensors["blk.1.ffn_gate.weight"],
                                      model.decoder.layers[1].gate.weight.detach().numpy())


if __name__ == "__main__":
    unittest.main()
