"""Checks of convert_scorer.py: python -m unittest test_convert_scorer (in tools/)."""

import io
import json
import tempfile
import unittest
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

import convert_scorer
from checkpoints.scorer import SCORERS, vocabulary, write_scorer
from convert.scorer import cubic_weights


class Scorers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out"

    def run_on(self, checkpoint: Path, *more: str) -> tuple[int, str]:
        with redirect_stderr(io.StringIO()) as said:
            status = convert_scorer.main([str(checkpoint), "--out", str(self.out), *more])
        return status, said.getvalue()

    def refused(self, checkpoint: Path, *parts: str):
        status, said = self.run_on(checkpoint)
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        for part in parts:
            self.assertIn(part, said)
        self.assertEqual(list(self.out.iterdir()) if self.out.exists() else [], [])

    def changed(self, kind: str, file: str = "config.json", **changes) -> Path:
        checkpoint = write_scorer(self.folder / f"{kind}-{len(list(self.folder.iterdir()))}", kind)
        content = json.loads((checkpoint / file).read_text())
        (checkpoint / file).write_text(json.dumps(content | changes))
        return checkpoint

    def test_files(self):
        for kind in SCORERS:
            checkpoint = write_scorer(self.folder / kind, kind)
            for name in ("f32", "f16", "q8_0"):
                self.assertEqual(self.run_on(checkpoint, "--type", name)[0], 0)
                reader = GGUFReader(self.out / f"{kind}-{name.upper()}.gguf")
                tensors = {tensor.name: tensor for tensor in reader.tensors}
                self.assertEqual("d.film_mul.weight" in tensors, kind != "clip")
                # Rows of 32 are whole blocks, rows of 48 are none.
                self.assertEqual(tensors["t.projection.weight"].tensor_type.name, name.upper())
                narrow = {"f32": "F32", "f16": "F16", "q8_0": "F16"}[name]
                self.assertEqual(tensors["v.projection.weight"].tensor_type.name, narrow)
                self.assertEqual(tensors["v.position_embd.weight"].tensor_type.name, "F32")
                side = SCORERS[kind]["side"] // 8
                self.assertEqual(tensors["v.position_embd.weight"].shape.tolist(), [48, side * side + 1])

    def test_the_tokenizer_is_that_of_both_layouts(self):
        vocab, merges = vocabulary()
        for kind in ("clip", "clipseg"):
            self.run_on(write_scorer(self.folder / kind, kind))
            fields = GGUFReader(self.out / f"{kind}-F16.gguf").fields
            strings = lambda key: [bytes(fields[key].parts[i]).decode() for i in fields[key].data]
            self.assertEqual(strings("tokenizer.ggml.tokens"), sorted(vocab, key=vocab.get))
            self.assertEqual(strings("tokenizer.ggml.merges"), [" ".join(pair) for pair in merges])

    def test_weights_of_the_bicubic_filter(self):
        self.assertTrue(np.allclose(cubic_weights(5, 5), np.eye(5)))
        self.assertTrue(np.allclose(cubic_weights(4, 7).sum(axis=1), 1))

    def test_what_is_no_such_model(self):
        self.refused(self.folder / "nothing", "no such folder")
        self.refused(self.changed("clip", model_type="llava"), "is a llava, not a text-image model")
        text = json.loads((write_scorer(self.folder / "c", "clip") / "config.json").read_text())["text_config"]
        self.refused(self.changed("clip", text_config=text | {"hidden_act": "silu"}), "activation is silu")
        self.refused(self.changed("clip", text_config=text | {"eos_token_id": 7}), "ends its texts with token 7")
        self.refused(self.changed("clip", text_config=text | {"vocab_size": 100}), "562 tokens, the text tower 100")
        self.refused(self.changed("clip", projection_dim=25), "has the shape")
        self.refused(self.changed("clip", "preprocessor_config.json", crop_size=31), "31")
        self.refused(self.changed("clip", "preprocessor_config.json", resample=1), "resample 1")
        self.refused(self.changed("clipseg", "preprocessor_config.json", size={"height": 50, "width": 50}), "whole patches of 8")
        self.refused(self.changed("clipseg", extract_layers=[0, 1, 4]), "layer 4 of 4")

    def test_what_is_missing_or_too_much(self):
        checkpoint = write_scorer(self.folder / "clip", "clip")
        (checkpoint / "merges.txt").unlink()
        self.refused(checkpoint, "no tokenizer of CLIP")
        checkpoint = write_scorer(self.folder / "clipseg", "clipseg")
        tensors = load_file(checkpoint / "model.safetensors")
        save_file(tensors | {"decoder.more": np.zeros(3, np.float32)}, checkpoint / "model.safetensors")
        self.refused(checkpoint, "decoder.more")
        del tensors["clip.logit_scale"]
        save_file(tensors, checkpoint / "model.safetensors")
        self.refused(checkpoint, "logit_scale")


if __name__ == "__main__":
    unittest.main()
