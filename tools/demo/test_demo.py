"""`python -m unittest demo.test_demo` in tools/."""

import json
import unittest
from pathlib import Path

import numpy as np
import torch

from . import questions, scenes, tasks, vocabulary
from .batches import spoken
from .merging import merge
from .model import Llava, Schedule

DEMO = Path(__file__).parents[2] / "models/demo"


class Merging(unittest.TestCase):
    def test_agrees_with_the_definition_in_float64(self):
        rng = np.random.default_rng(0)
        for n, r in ((1, 0), (5, 4), (40, 1), (196, 25)):
            x = rng.standard_normal((n, 3)).astype(np.float32)
            scores = rng.integers(0, 6, n).astype(np.float32)   # many are equal
            order = sorted(range(n), key=lambda i: (scores[i], i))
            expected = x.astype(np.float64)
            weights = np.arange(r + 1, 0, -1)
            expected[order[r]] = weights @ expected[order[:r + 1]] / weights.sum()
            survivors = sorted(order[r:])
            got, kept = merge(torch.from_numpy(x)[None], torch.from_numpy(scores)[None], r)
            self.assertEqual(kept[0].tolist(), survivors)
            np.testing.assert_allclose(got[0].numpy(), expected[survivors], atol=1e-6)

    def test_refuses_to_remove_every_token(self):
        with self.assertRaises(ValueError):
            merge(torch.zeros(1, 4, 2), torch.zeros(1, 4), 4)

    def test_a_schedule_counts_the_tokens_that_the_model_has(self):
        schedule = Schedule((2, 3), (10, 20), (1, 2), (0.7, 0.5))
        torch.manual_seed(0)
        model = Llava()
        picture = torch.randint(0, 256, (1, scenes.SIDE, scenes.SIDE, 3), dtype=torch.uint8)
        with torch.no_grad():
            tokens, _ = model.tower(picture, schedule)
            (cache, _), _ = model.decoder.prefix(model.projector(tokens), schedule)
        found = [tokens.shape[1], *(keys.shape[2] - 1 for keys, _ in cache)]
        after, once, twice = schedule.tokens()[1:]
        self.assertEqual(found, [after, after, once, twice, twice])


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


class Questions(unittest.TestCase):
    def test_the_committed_set_is_what_the_seed_gives(self):
        rng = np.random.default_rng(questions.SEED)
        drawn = [q for _, _, some in (*questions._scenes(rng), *questions._pages(rng)) for q in some]
        lines = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text().splitlines()]
        self.assertGreaterEqual(len(lines), 1000)
        self.assertEqual([(q.kind, q.text, q.answer) for q in drawn],
                         [(q["kind"], q["question"], q["answer"]) for q in lines])

    def test_answers_can_be_written_and_read_back(self):
        rng = np.random.default_rng(4)
        for _ in range(50):
            scene = scenes.random_scene(rng)
            for kind in tasks.SCENE_KINDS:
                question = tasks.scene_question(rng, scene, kind)
                if question:
                    ids = vocabulary.encode(spoken(question))
                    self.assertEqual(vocabulary.decode(ids).strip(), question.answer)


if __name__ == "__main__":
    unittest.main()
