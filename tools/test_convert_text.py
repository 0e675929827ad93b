"""Checks of the converter's tokenizers and chat templates: python -m unittest test_convert_text (in tools/)."""

import io
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import jinja2
import sentencepiece
from gguf import TokenType

from checkpoints.shapes import FAMILIES
from convert import templates
from convert.model import open_model
from convert.sentencepiece_file import _prepends
from convert.tokenizer import read_vocabulary
from convert.vocabulary import Vocabulary
from make_checkpoint import HF_ONLY, make_checkpoint
from testmodels.vocabulary import CORPUS


class Tokenizers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def read(self, name: str, layout: str = "hf", remove=(), add=None) -> Vocabulary:
        folder = self.folder / f"{name}-{layout}"
        make_checkpoint(folder, name, layout)
        for file in remove:
            (folder / file).unlink()
        for file, content in (add or {}).items():
            (folder / file).write_text(json.dumps(content))
        checkpoint, model = open_model(folder, Path(f"{folder}-tower") if layout == "original" else None)
        vocabulary = read_vocabulary(checkpoint, model.text)
        shutil.rmtree(folder)
        return vocabulary

    def test_byte_level_from_either_set_of_files(self):
        fast, slow = self.read("llava_onevision"), self.read("llava_onevision", "original")
        self.assertEqual(fast, slow)
        self.assertEqual((fast.model, fast.pre, fast.add_bos), ("gpt2", "qwen2", False))
        self.assertEqual(fast.merges[0].count(" "), 1)
        for mark in ("<|im_start|>", "<|im_end|>", "<image>", "<video>"):
            self.assertEqual(fast.types[fast.tokens.index(mark)], TokenType.CONTROL, mark)
        self.assertEqual(fast.tokens[fast.special["eos"]], "<|im_end|>")
        self.assertEqual(fast.tokens[fast.special["pad"]], "<|endoftext|>")

    def test_sentencepiece_from_either_file(self):
        model = self.read("llava", remove=["tokenizer.json"])
        fast = self.read("llava", remove=["tokenizer.model", "added_tokens.json"])
        self.assertEqual(model.tokens, fast.tokens)
        self.assertEqual(model.types, fast.types)
        self.assertEqual(model.special, fast.special)
        self.assertEqual((fast.add_bos, fast.add_space_prefix), (model.add_bos, model.add_space_prefix))
        # The scores differ, the order they give to what can merge does not.
        merged = [i for i, token in enumerate(model.tokens)
                  if model.types[i] == TokenType.NORMAL and len(token) > 1]
        self.assertGreater(len(merged), 50)
        self.assertEqual(sorted(merged, key=lambda i: -model.scores[i]), sorted(merged, key=lambda i: -fast.scores[i]))
        self.assertEqual((model.types[0], model.types[1], model.types[3]),
                         (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.BYTE))
        self.assertTrue(model.add_bos and model.add_space_prefix)

    def test_how_a_tokenizer_says_that_texts_begin_with_a_space(self):
        for parts, expected in (
            ({"normalizer": {"type": "Prepend", "prepend": "▁"}}, True),
            ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend"}, {"type": "Replace"}]}}, True),
            ({"normalizer": {"type": "Replace"}, "pre_tokenizer": None}, False),
            ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}}, True),
            ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "never"}}, False),
        ):
            with self.subTest(parts=parts):
                self.assertEqual(_prepends(parts), expected)

    def test_what_the_configuration_says_goes_first(self):
        config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "add_prefix_space": False,
                  "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
        vocabulary = self.read("llava", add={"tokenizer_config.json": config})
        self.assertEqual((vocabulary.add_bos, vocabulary.add_space_prefix), (False, False))
        self.assertEqual(vocabulary.special["bos"], 1)

    def test_a_mark_is_never_text_whatever_the_files_say(self):
        added = {"420": {"content": "<image>", "special": False}, "421": {"content": "plain", "special": False}}
        vocabulary = self.read("llava", remove=["tokenizer.json"],
                               add={"tokenizer_config.json": {"added_tokens_decoder": added}, "added_tokens.json": {}})
        self.assertEqual(vocabulary.types[420:422], [TokenType.CONTROL, TokenType.USER_DEFINED])

    def test_a_vocabulary_like_yis(self):
        """Turn marks are pieces of the model itself, and texts begin without a space."""
        marks = ["<|im_start|>", "<|im_end|>"]
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS.split(".")), model_writer=model, model_type="bpe", vocab_size=400,
            byte_fallback=True, hard_vocab_limit=False, add_dummy_prefix=False, user_defined_symbols=marks,
            normalization_rule_name="identity", num_threads=1, minloglevel=2)
        checkpoint = make_checkpoint(self.folder / "yi", "llava_next", "original")
        (checkpoint / "tokenizer.model").write_bytes(model.getvalue())
        config = {"add_bos_token": False, "bos_token": "<s>", "eos_token": "<|im_end|>"}
        for name, content in (("tokenizer_config.json", config), ("added_tokens.json", {})):
            (checkpoint / name).write_text(json.dumps(content))
        opened, described = open_model(checkpoint, self.folder / "yi-tower")
        vocabulary = read_vocabulary(opened, described.text)
        for mark in marks:
            self.assertEqual(vocabulary.types[vocabulary.tokens.index(mark)], TokenType.CONTROL)
        self.assertEqual(vocabulary.tokens[vocabulary.special["eos"]], "<|im_end|>")
        self.assertEqual((vocabulary.add_bos, vocabulary.add_space_prefix), (False, False))
        self.assertEqual(templates.chat_template(opened, described, vocabulary), templates.YI)

    def test_length(self):
        def small() -> Vocabulary:
            return Vocabulary("gpt2", "qwen2", list("abc"), [TokenType.NORMAL] * 3, special={"eos": 2})

        longer, shorter = small(), small()
        self.assertEqual(longer.fit(5), 0)
        self.assertEqual(longer.tokens, ["a", "b", "c", "[PAD3]", "[PAD4]"])
        self.assertEqual(longer.types[3:], [TokenType.UNUSED] * 2)
        self.assertEqual(shorter.fit(2), 1)
        self.assertEqual((shorter.tokens, shorter.special), (["a", "b"], {}))


class Templates(unittest.TestCase):
    def render(self, source: str, messages: list[dict]) -> str:
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(source).render(messages=messages, add_generation_prompt=True)

    def test_what_the_authors_write_around_a_question(self):
        parts = [{"type": "image"}, {"type": "text", "text": "What?"}]
        ask = [{"role": "user", "content": parts}]
        more = [*ask, {"role": "assistant", "content": "A cat."}, {"role": "user", "content": "Sure?"}]
        brief = [{"role": "system", "content": "Be brief."}, *ask]
        system = ("A chat between a curious human and an artificial intelligence assistant. The assistant gives "
                  "helpful, detailed, and polite answers to the human's questions. ")
        cases = [
            (templates.VICUNA, ask, f"{system}USER: <image>\nWhat? ASSISTANT:"),
            (templates.VICUNA, more, f"{system}USER: <image>\nWhat? ASSISTANT: A cat.</s>USER: Sure? ASSISTANT:"),
            (templates.MISTRAL, ask, "[INST] <image>\nWhat? [/INST]"),
            (templates.MISTRAL, more, "[INST] <image>\nWhat? [/INST] A cat.</s>[INST] Sure? [/INST]"),
            (templates.MISTRAL, brief, "[INST] Be brief.\n\n<image>\nWhat? [/INST]"),
            (templates.QWEN, ask, "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
                                  "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n"),
            (templates.YI, ask, "<|im_start|>system\nAnswer the questions.<|im_end|>"
                                "<|im_start|>user\n<image>\nWhat?<|im_end|><|im_start|>assistant\n"),
            (templates.QWEN, brief, "<|im_start|>system\nBe brief.<|im_end|>\n"
                                    "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n"),
        ]
        for source, messages, expected in cases:
            with self.subTest(expected=expected):
                self.assertEqual(self.render(source, messages), expected)

    def test_which_template_is_stored(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in FAMILIES:
                for layout in ("hf", "original"):
                    if layout == "original" and name in HF_ONLY:
                        continue
                    checkpoint = make_checkpoint(Path(folder) / f"{name}-{layout}", name, layout)
                    tower = Path(f"{checkpoint}-tower") if layout == "original" else None
                    opened, model = open_model(checkpoint, tower)
                    found = templates.chat_template(opened, model, read_vocabulary(opened, model.text))
                    expected = {"qwen2": templates.QWEN, "mistral": templates.MISTRAL, "llama": templates.VICUNA}
                    written = opened.text("chat_template.jinja")
                    with self.subTest(family=name, layout=layout):
                        self.assertEqual(found, written if layout == "hf" else expected[FAMILIES[name].text])


if __name__ == "__main__":
    unittest.main()
