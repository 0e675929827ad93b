"""Checks of what a folder says beside its tensors: adapters, quantised weights, processors, positions, templates,
metadata: python -m unittest test_convert_causes (in tools/)."""

import json
import unittest
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from convert.lora import _of_module
from convert.problem import Problem
from convert.rope import check_rope, frequency_divisors, write_rope
from make_checkpoint import make_checkpoint
from test_convert import fields, run, values_of
from test_convert_wrong import Refusals


class Causes(Refusals):
    """The true cause is named, in one line, before a byte is written."""

    def renamed(self, change) -> Path:
        checkpoint = make_checkpoint(self.folder / "renamed", "llava")
        weights = load_file(checkpoint / "model.safetensors")
        save_file({change(name): values for name, values in weights.items()}, checkpoint / "model.safetensors")
        return checkpoint

    def test_an_adapter_alone(self):
        folder = self.folder / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somewhere/llava"}')
        self.check(folder, "is a PEFT adapter", "download somewhere/llava", f"--lora {folder}")

    def test_quantised_weights(self):
        for told, named in (
            ({"quant_method": "awq", "bits": 4}, "AWQ"), ({"quant_method": "gptq"}, "GPTQ"),
            ({"quant_method": "bitsandbytes"}, "bitsandbytes"), ({"load_in_4bit": True}, "bitsandbytes"),
            ({"quant_method": "fp8"}, "FP8"), ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ):
            self.check(self.edited("llava", quantization_config=told), f"quantised by {named}", "F32, F16 or BF16")
        self.check(self.renamed(lambda name: name.replace("q_proj.weight", "q_proj.qweight")), "quantised by AWQ or GPTQ")
        self.check(self.renamed(lambda name: name.replace("q_proj.weight", "q_proj.weight.absmax")), "bitsandbytes")
        self.check(self.renamed(lambda name: name.replace("q_proj.weight", "q_proj.lora_A.weight")), "merge_and_unload")

    def test_prefixes_of_training(self):
        for prefix in ("module.", "base_model.model.", "_orig_mod.module."):
            checkpoint = self.renamed(lambda name: prefix + name)
            with self.subTest(prefix=prefix):
                status, said = run(checkpoint, "--out", self.out / prefix, "--name", "tiny")
                self.assertEqual(status, 0, said)

    def test_towers_and_activations(self):
        for family, part, changes, parts in (
            ("llava", "vision_config", {"model_type": "dinov2"}, ["dinov2", "CLIP and SigLIP"]),
            ("llava", "vision_config", {"hidden_act": "relu"}, ["image encoder's activation relu"]),
            ("llava", "text_config", {"hidden_act": "gelu"}, ["activation is gelu", "silu"]),
            ("llava", None, {"projector_hidden_act": "relu"}, ["projector_hidden_act relu"]),
        ):
            checkpoint = make_checkpoint(self.folder / "tower", family)
            config = json.loads((checkpoint / "config.json").read_text())
            config.update(changes) if part is None else config[part].update(changes)
            (checkpoint / "config.json").write_text(json.dumps(config))
            self.check(checkpoint, *parts)

    def test_processors(self):
        file = "preprocessor_config.json"
        for changes, parts in (
            ({"resample": 1}, ["resample 1"]), ({"do_normalize": False}, ["do_normalize false"]),
            ({"rescale_factor": 1.0}, ["rescale_factor 1.0"]), ({"image_mean": None}, ["no image_mean"]),
            ({"crop_size": {"height": 48, "width": 48}}, ["crop_size", "56 x 56"]),
        ):
            self.check(self.edited("llava", file=file, **changes), *parts)
        checkpoint = make_checkpoint(self.folder / "without", "llava")
        (checkpoint / file).unlink()
        self.check(checkpoint, "no preprocessor_config.json", "download it")

    def test_positions(self):
        text = json.loads((make_checkpoint(self.folder / "plain", "llava") / "config.json").read_text())["text_config"]
        for rope, parts in (
            ({"rope_type": "dynamic", "factor": 2.0}, ["type dynamic"]),
            ({"rope_type": "yarn", "factor": 4.0, "beta_fast": 16.0}, ["beta_fast is 16.0"]),
            ({"rope_type": "yarn", "factor": 4.0, "truncate": False}, ["truncate is False"]),
        ):
            checkpoint = make_checkpoint(self.folder / "rope", "llava")
            config = json.loads((checkpoint / "config.json").read_text())
            config["text_config"] = text | {"rope_scaling": rope}
            (checkpoint / "config.json").write_text(json.dumps(config))
            self.check(checkpoint, *parts)

    def test_templates_that_do_not_run(self):
        for source, parts in (
            ("{% for %}", ["the chat template does not run", "--chat-template"]),
            ("{{ raise_exception('not today') }}", ["not today"]),
            ("{{ messages | nothing }}", ["nothing"]),
            ("hello", ["leaves the question out"]),
        ):
            checkpoint = make_checkpoint(self.folder / "template", "llava")
            (checkpoint / "chat_template.jinja").write_text(source)
            self.check(checkpoint, *parts)
        given = self.folder / "given.jinja"
        given.write_text("{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}")
        status, said = run(checkpoint, "--out", self.out, "--name", "tiny", "--chat-template", given)
        self.assertEqual(status, 0, said)
        text = gguf.GGUFReader(next(self.out.glob("tiny-*.gguf")))
        self.assertEqual(fields(text)["tokenizer.chat_template"], given.read_text())


class Rope(unittest.TestCase):
    def keys(self, rope: dict) -> dict:
        writer = gguf.GGUFWriter(path=None, arch="llama")
        write_rope(writer, rope, 4096)
        return {key: value.value for part in writer.kv_data for key, value in part.items()}

    def test_yarn(self):
        """llama.cpp multiplies with 0.1 ln(factor) + 1 by itself."""
        usual = 0.1 * np.log(4) + 1
        yarn = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 1024}
        key = "llama.rope.scaling.attn_factor"
        self.assertNotIn(key, self.keys(yarn))
        self.assertNotIn(key, self.keys(yarn | {"attention_factor": usual, "beta_fast": 32, "beta_slow": 1}))
        self.assertAlmostEqual(self.keys(yarn | {"attention_factor": 1.5})[key], 1.5 / usual)
        both = yarn | {"mscale": 0.7, "mscale_all_dim": 0.3}
        self.assertAlmostEqual(self.keys(both)[key], (0.07 * np.log(4) + 1) / (0.03 * np.log(4) + 1) / usual)
        self.assertEqual(self.keys(yarn)["llama.rope.scaling.original_context_length"], 1024)

    def test_types(self):
        self.assertEqual(frequency_divisors({"rope_type": "default"}, 16), [])
        for rope in ({"rope_type": "longrope"}, {"rope_type": "linear"}, {"partial_rotary_factor": 0.5}):
            with self.subTest(rope=rope), self.assertRaises(Problem):
                check_rope(rope)
        with self.assertRaisesRegex(Problem, "high_freq_factor"):
            frequency_divisors({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}, 16)

    def test_a_sliding_window_bounds_the_context(self):
        import tempfile

        for window, context in ((512, 512), (8192, 4096), (None, 4096)):
            with tempfile.TemporaryDirectory() as folder, self.subTest(window=window):
                checkpoint = make_checkpoint(Path(folder) / "checkpoint", "llava_next_mistral")
                config = json.loads((checkpoint / "config.json").read_text())
                config["text_config"]["sliding_window"] = window
                (checkpoint / "config.json").write_text(json.dumps(config))
                status, said = run(checkpoint, "--out", folder, "--name", "tiny", "--only", "text")
                self.assertEqual((status, "sliding_window" in said), (0, window == 512), said)
                written = fields(gguf.GGUFReader(next(Path(folder).glob("tiny-*.gguf"))))
                self.assertEqual(written["llama.context_length"], context)


class OneFileOfProcessors(Refusals):
    """transformers 5 saves all processors in processor_config.json."""

    def test_its_numbers_are_used(self):
        for family, video, expected in (
            ("llava_onevision", {"num_frames": 16}, {"illava.video.frames": 16}),
            ("qwen2_vl", {"fps": 4.0, "max_frames": 96, "size": {"shortest_edge": 4096, "longest_edge": 8192}},
             {"illava.video.fps": 4.0, "illava.video.max_frames": 96, "illava.video.min_pixels": 4096,
              "illava.video.max_pixels": 8192}),
        ):
            checkpoint = make_checkpoint(self.folder / family, family)
            together = json.loads((checkpoint / "processor_config.json").read_text())
            for name, part in (("preprocessor_config.json", "image_processor"),
                               ("video_preprocessor_config.json", "video_processor")):
                together[part] = json.loads((checkpoint / name).read_text())
                (checkpoint / name).unlink()
            together["image_processor"]["image_mean"] = [0.25, 0.5, 0.75]
            for key in ("min_pixels", "max_pixels", "fps"):
                together["video_processor"].pop(key, None)
            together["video_processor"] |= video
            (checkpoint / "processor_config.json").write_text(json.dumps(together))
            status, said = run(checkpoint, "--out", self.out, "--name", family, "--only", "mmproj")
            self.assertEqual(status, 0, said)
            found = fields(gguf.GGUFReader(self.out / f"mmproj-{family}-F16.gguf"))
            for key, value in (expected | {"clip.vision.image_mean": [0.25, 0.5, 0.75]}).items():
                with self.subTest(family=family, key=key):
                    self.assertEqual(found[key], value)

    def test_siglips_own_processor_squeezes(self):
        checkpoint = make_checkpoint(self.folder / "joy", "llava_llama3")
        status, said = run(checkpoint, "--out", self.out, "--name", "joy", "--only", "mmproj")
        self.assertEqual(status, 0, said)
        found = fields(gguf.GGUFReader(self.out / "mmproj-joy-F16.gguf"))
        self.assertEqual(found["illava.vision.image_aspect_ratio"], "square")


class Adapters(Refusals):
    QUERY = "language_model.model.layers.3.self_attn.q_proj"
    PROJECTOR = "multi_modal_projector.linear_1"

    def adapter(self, tensors: dict[str, np.ndarray], **config) -> Path:
        folder = self.folder / "adapter"
        folder.mkdir(exist_ok=True)
        told = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]} | config
        (folder / "adapter_config.json").write_text(json.dumps(told))
        save_file({f"base_model.model.{name}": values for name, values in tensors.items()},
                  folder / "adapter_model.safetensors")
        return folder

    def halves(self, module: str, rows: int, columns: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(5)
        return {f"{module}.lora_A.weight": random.standard_normal((4, columns), np.float32),
                f"{module}.lora_B.weight": random.standard_normal((rows, 4), np.float32)}

    def test_an_adapter_is_added(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava_onevision")
        before = load_file(checkpoint / "model.safetensors")
        halves = self.halves(self.QUERY, 64, 64)
        projector = {f"{self.PROJECTOR}.weight": before[f"{self.PROJECTOR}.weight"] + 1}
        product = halves[f"{self.QUERY}.lora_B.weight"] @ halves[f"{self.QUERY}.lora_A.weight"]
        for config, scale in (({}, 2.0), ({"use_rslora": True}, 4.0), ({"alpha_pattern": {"q_proj": 2}}, 0.5)):
            adapter = self.adapter(halves | projector, **config)
            status, said = run(checkpoint, "--out", self.out, "--name", "tiny", "--lora", adapter, "--type", "f32",
                               "--tower-type", "f32")
            self.assertEqual(status, 0, said)
            self.assertIn("1 matrices changed by the adapter, 1 tensors replaced", said)
            text = {t.name: values_of(t) for t in gguf.GGUFReader(self.out / "tiny-F32.gguf").tensors}
            tower = {t.name: values_of(t) for t in gguf.GGUFReader(self.out / "mmproj-tiny-F32.gguf").tensors}
            wanted = before[f"{self.QUERY}.weight"] + np.float32(scale) * product
            np.testing.assert_allclose(text["blk.3.attn_q.weight"], wanted, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(text["blk.4.attn_q.weight"],
                                          before[self.QUERY.replace("3", "4") + ".weight"])
            np.testing.assert_array_equal(tower["mm.0.weight"], before[f"{self.PROJECTOR}.weight"] + 1)

    def test_adapters_that_do_not_fit(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava_onevision")
        halves = self.halves(self.QUERY, 64, 64)
        cases = (
            (self.halves("language_model.model.layers.30.self_attn.q_proj", 64, 64), {}, "does not have"),
            (self.halves(self.QUERY, 64, 32), {}, "matrix is [64, 64]"),
            ({f"{self.QUERY}.lora_A.weight": halves[f"{self.QUERY}.lora_A.weight"]}, {}, "one half only"),
            (halves, {"r": 8}, "says rank 8"),
            (halves, {"use_dora": True}, "use_dora"),
            (halves, {"peft_type": "IA3"}, "type IA3"),
            ({f"{self.QUERY}.lora_magnitude_vector": np.zeros(4, np.float32)}, {}, "not supported"),
        )
        for tensors, config, part in cases:
            self.check(checkpoint, part, arguments=("--lora", self.adapter(tensors, **config)))
        self.check(checkpoint, "no adapter_config.json", arguments=("--adapter", self.folder))

    def test_patterns_of_ranks(self):
        self.assertEqual(_of_module({"q_proj": 3, "v_.*": 5}, "model.layers.0.q_proj", 1), 3)
        self.assertEqual(_of_module({"q_proj": 3}, "model.layers.0.k_proj", 1), 1)


class Metadata(Refusals):
    CARD = ("---\nlicense: apache-2.0\nbase_model: somewhere/Tiny-0.1B\ntags: [pictures]\nlanguage: [en]\n---\n# Tiny\n")

    def test_of_the_model_card(self):
        checkpoint = make_checkpoint(self.folder / "Tiny-Llava-Instruct-v1.5", "llava")
        (checkpoint / "README.md").write_text(self.CARD)
        status, said = run(checkpoint, "--out", self.out, "--name", "tiny")
        self.assertEqual(status, 0, said)
        for name, size in (("tiny-F16.gguf", "538K"), ("mmproj-tiny-F16.gguf", "400K")):
            found = fields(gguf.GGUFReader(self.out / name))
            for key, value in {
                "general.name": "tiny", "general.license": "apache-2.0", "general.basename": "Tiny-Llava",
                "general.finetune": "Instruct", "general.version": "v1.5", "general.size_label": size,
                "general.base_model.count": 1, "general.base_model.0.organization": "Somewhere",
                "general.base_model.0.repo_url": "https://huggingface.co/somewhere/Tiny-0.1B",
                "general.tags": ["pictures"], "general.languages": ["en"],
            }.items():
                with self.subTest(file=name, key=key):
                    self.assertEqual(found[key], value)

    def test_a_file_overrides(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava")
        told = self.folder / "told.json"
        for content, part in (("{", "JSON"), ('{"llama.context_length": 5}', "other keys than general.*")):
            told.write_text(content)
            self.check(checkpoint, part, arguments=("--metadata", told))
        told.write_text('{"general.repo_url": "https://example.org/tiny", "general.size_label": "9B"}')
        status, said = run(checkpoint, "--out", self.out, "--name", "tiny", "--metadata", told)
        self.assertEqual(status, 0, said)
        found = fields(gguf.GGUFReader(self.out / "tiny-F16.gguf"))
        self.assertEqual((found["general.repo_url"], found["general.size_label"]), ("https://example.org/tiny", "9B"))


if __name__ == "__main__":
    unittest.main()
