"""Checks of the converter's tensors, types and files: python -m unittest test_convert (in tools/)."""

import contextlib
import io
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from checkpoints.shapes import FAMILIES, Family
from checkpoints.weights import _values
from convert.encode import encode
from convert.problem import Problem
from convert.towers import named, tower_of
from make_checkpoint import make_checkpoint
from testmodels.tensors import decoder_tensors, tower_tensors

TOOLS = Path(__file__).resolve().parent


def run(*arguments) -> tuple[int, str]:
    """The converter's exit status and what it says."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("convert_program", TOOLS / "convert.py")
    program = importlib.util.module_from_spec(spec)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        spec.loader.exec_module(program)
        status = program.main([str(argument) for argument in arguments])
    return status, said.getvalue()


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out"

    def convert(self, checkpoint: Path, *arguments) -> tuple[gguf.GGUFReader, gguf.GGUFReader]:
        status, said = run(checkpoint, "--out", self.out, "--name", "tiny", *arguments)
        self.assertEqual(status, 0, said)
        text = [path for path in self.out.glob("tiny-*.gguf")]
        mmproj = [path for path in self.out.glob("mmproj-tiny-*.gguf")]
        self.assertEqual((len(text), len(mmproj)), (1, 1))
        self.assertEqual(list(self.out.glob("*.part*")), [])
        return gguf.GGUFReader(text[0]), gguf.GGUFReader(mmproj[0])


def values_of(tensor) -> np.ndarray:
    shape = [int(n) for n in reversed(tensor.shape)]
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)


def fields(reader: gguf.GGUFReader) -> dict:
    return {key: field.contents() for key, field in reader.fields.items()}


def expected_text(family: Family) -> dict[str, np.ndarray]:
    """The decoder's tensors, with the rows of query and key as the llama graph pairs them."""
    found = {tensor.name: _values(family, tensor) for tensor in decoder_tensors(family.decoder)}
    if family.decoder.arch == "llama":
        half = family.decoder.head_size // 2
        order = [j // 2 + half * (j % 2) for j in range(2 * half)]
        for name, values in found.items():
            if name.endswith(("attn_q.weight", "attn_k.weight")):
                rows = [head * 2 * half + j for head in range(len(values) // (2 * half)) for j in order]
                found[name] = values[rows]
    return found


def expected_tower(family: Family, used: int) -> dict[str, np.ndarray]:
    tensors = [t for t in tower_tensors(family.tower)
               if not t.name.startswith("v.blk.") or int(t.name.split(".")[2]) < used]
    return {tensor.name: _values(family, tensor) for tensor in tensors}


class EveryTensor(Folder):
    def check(self, reader: gguf.GGUFReader, expected: dict[str, np.ndarray]):
        found = {tensor.name: tensor for tensor in reader.tensors}
        self.assertEqual(set(found), set(expected))
        for name, values in expected.items():
            with self.subTest(tensor=name):
                self.assertEqual(found[name].tensor_type, Type.F32)
                np.testing.assert_array_equal(values_of(found[name]), values)

    def check_pair(self, name: str, layout: str):
        family = FAMILIES[name]
        checkpoint = make_checkpoint(self.folder / "checkpoint", name, layout, shards=3)
        tower = ("--tower", self.folder / "checkpoint-tower") if layout == "original" else ()
        text, mmproj = self.convert(checkpoint, "--type", "f32", "--tower-type", "f32", *tower)
        self.check(text, expected_text(family))
        used = family.tower.stored - (family.tower.family == "clip")
        expected = expected_tower(family, used)
        if family.pinpoints is not None:
            from safetensors.numpy import load_file

            stored = {}
            for shard in checkpoint.glob("*.safetensors"):
                stored |= load_file(shard)
            expected["v.image_newline"] = next(v for k, v in stored.items() if k.endswith("image_newline"))
        self.check(mmproj, expected)
        self.assertEqual(fields(mmproj)["clip.vision.block_count"], used)
        return fields(text), fields(mmproj)

    def test_transformers_layout(self):
        for name in FAMILIES:
            with self.subTest(family=name):
                _, mmproj = self.check_pair(name, "hf")
                self.assertEqual(mmproj["illava.vision.family"], name.removesuffix("_mistral"))
            shutil.rmtree(self.out)

    def test_original_layout(self):
        for name in FAMILIES:
            if name != "qwen2_vl":
                with self.subTest(family=name):
                    _, mmproj = self.check_pair(name, "original")
                    self.assertEqual(mmproj["illava.vision.family"], name.removesuffix("_mistral"))
                shutil.rmtree(self.out)

    def test_names_that_transformers_saves_today(self):
        from safetensors.numpy import load_file, save_file

        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava_next")
        weights = load_file(checkpoint / "model.safetensors")

        def renamed(name: str) -> str:
            name = name.replace("language_model.lm_head", "lm_head").replace("language_model.model", "language_model")
            name = name.replace("vision_tower.vision_model", "vision_tower")
            return name if name.startswith("lm_head") else f"model.{name}"

        save_file({renamed(name): values for name, values in weights.items()}, checkpoint / "model.safetensors")
        text, _ = self.convert(checkpoint, "--type", "f32")
        self.check(text, expected_text(FAMILIES["llava_next"]))

    def test_a_tied_output_is_stored_once(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava_onevision")
        config = json.loads((checkpoint / "config.json").read_text())
        config["text_config"]["tie_word_embeddings"] = True
        (checkpoint / "config.json").write_text(json.dumps(config))
        text, _ = self.convert(checkpoint)
        self.assertNotIn("output.weight", [tensor.name for tensor in text.tensors])


class Metadata(Folder):
    def test_of_both_layouts(self):
        next_grid = [56, 112, 112, 56, 112, 112, 168, 56, 56, 168]
        cases = {
            "llava_onevision": {"illava.vision.image_aspect_ratio": "anyres_max_9", "illava.vision.anyres_max_tiles": 9,
                                "clip.vision.mm_patch_merge_type": "spatial_unpad", "clip.vision.feature_layer": [10],
                                "illava.video.frames": 32, "clip.use_gelu": True},
            "llava_next": {"illava.vision.image_aspect_ratio": "anyres", "illava.vision.class_token": "first",
                           "clip.vision.feature_layer": [10], "clip.use_gelu": False},
            "llava": {"illava.vision.image_aspect_ratio": "pad", "illava.vision.pad_color": [122, 116, 104],
                      "clip.vision.mm_patch_merge_type": "flat"},
            "qwen2_vl": {"clip.projector_type": "qwen2vl_merger", "clip.vision.image_min_pixels": 1024,
                         "clip.vision.image_max_pixels": 25600, "illava.video.fps": 2.0, "illava.video.max_pixels": 9216},
        }
        for name, expected in cases.items():
            for layout in ("hf", "original"):
                if (name, layout) == ("qwen2_vl", "original"):
                    continue
                checkpoint = make_checkpoint(self.folder / f"{name}-{layout}", name, layout)
                tower = ("--tower", f"{checkpoint}-tower") if layout == "original" else ()
                _, mmproj = self.convert(checkpoint, *tower)
                found = fields(mmproj)
                for key, value in expected.items():
                    with self.subTest(family=name, layout=layout, key=key):
                        self.assertEqual(found[key], value)
                if name == "llava_next":
                    # transformers lists (height, width), the authors (width, height): both are kept.
                    pairs = found["clip.vision.image_grid_pinpoints"]
                    swapped = [side for i in range(0, 10, 2) for side in (next_grid[i + 1], next_grid[i])]
                    self.assertEqual(pairs, next_grid if layout == "original" else swapped)
                if name == "llava_onevision":
                    self.assertEqual(len(found["clip.vision.image_grid_pinpoints"]), 72)
                shutil.rmtree(self.out)

    def test_a_recommended_schedule(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava")
        _, mmproj = self.convert(checkpoint, "--merge-vit", "3,4:6,6", "--merge-llm", "2:0.5", "--evaluated", "a test")
        found = fields(mmproj)
        self.assertEqual(found["illava.merge.vit_layers"], [3, 4])
        self.assertEqual(found["illava.merge.llm_keep"], [0.5])
        for wrong in (("--merge-vit", "3:6,6"), ("--merge-llm", "2"), ("--merge-llm", "2:1.5"), ("--merge-vit", "3:6")):
            status, said = run(checkpoint, "--out", self.out, *wrong, "--evaluated", "" if "3:6" in wrong else "a test")
            self.assertEqual((status, said.count("\n")), (1, 1), said)

    def test_towers_known_by_name(self):
        siglip = tower_of(named("google/siglip-so400m-patch14-384"), 26)
        self.assertEqual((siglip.patches, siglip.width, siglip.mlp, siglip.blocks), (729, 1152, 4304, 27))
        clip = tower_of(named("openai/clip-vit-large-patch14-336"), 23)
        self.assertEqual((clip.patches, clip.width, clip.heads, clip.activation), (576, 1024, 16, "quick_gelu"))


class Types(Folder):
    def test_each_is_near_the_checkpoint(self):
        family = FAMILIES["llava_onevision"]
        checkpoint = make_checkpoint(self.folder / "checkpoint", family.name)
        expected = expected_text(family) | expected_tower(family, 10)
        # Relative to the largest value: half a unit in the last place, or half a step of 1/127.
        for name, stored, error in (("f16", Type.F16, 2**-11), ("bf16", Type.BF16, 2**-8), ("q8_0", Type.Q8_0, 1 / 200)):
            text, mmproj = self.convert(checkpoint, "--type", name, "--tower-type", name)
            for tensor in [*text.tensors, *mmproj.tensors]:
                if tensor.name == "v.image_newline":
                    continue
                with self.subTest(type=name, tensor=tensor.name):
                    values, wanted = values_of(tensor), expected[tensor.name]
                    if "ffn_up" in tensor.name and tensor.name.startswith("v.") and name == "q8_0":
                        self.assertEqual(len(values), 160)
                        self.assertFalse(values[152:].any())
                        values = values[:152]
                    if "v.blk" in tensor.name and tensor.name.endswith("ffn_down.weight") and name == "q8_0":
                        self.assertFalse(values[:, 152:].any())
                        values = values[:, :152]
                    self.assertLessEqual(np.abs(values - wanted).max(), error * np.abs(wanted).max())
                    if tensor.name == "v.patch_embd.weight":
                        self.assertEqual(tensor.tensor_type, Type.F32 if name == "bf16" else Type.F16)
                    elif len(wanted.shape) == 1 or tensor.name == "v.position_embd.weight":
                        self.assertEqual(tensor.tensor_type, Type.F32)
                    else:
                        self.assertEqual(tensor.tensor_type, stored)
            padded = fields(mmproj).get("illava.vision.mlp_padded_from")
            self.assertEqual(padded, 152 if name == "q8_0" else None)
            shutil.rmtree(self.out)

    def test_what_f16_does_not_hold_is_refused(self):
        with self.assertRaisesRegex(Problem, "tensor x .* bf16"):
            encode(np.array([[1e6]], np.float32), Type.F16, "x")

    def test_other_types_go_through_the_quantiser(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava")
        program = self.folder / "quantizer"
        program.write_text('#!/bin/sh\n[ "$3" = Q4_K_M ] && cp "$1" "$2"\n')
        program.chmod(0o755)
        text, _ = self.convert(checkpoint, "--type", "q4_k_m", "--quantizer", program)
        self.assertEqual({t.tensor_type for t in text.tensors}, {Type.F32}, "the checkpoint's own type goes in")
        program.write_text('#!/bin/sh\necho half > "$2"\necho no room >&2\nexit 1\n')
        shutil.rmtree(self.out)
        status, said = run(checkpoint, "--out", self.out, "--type", "q4_0", "--quantizer", program)
        self.assertEqual((status, said), (1, "convert: the quantiser failed: no room\n"))
        self.assertEqual(list(self.out.iterdir()), [])


class Wrong(Folder):
    """Each is one line, and leaves no file."""

    def check(self, checkpoint: Path, *parts: str, arguments=()):
        status, said = run(checkpoint, "--out", self.out, *arguments)
        with self.subTest(said=said):
            self.assertEqual((status, said.count("\n")), (1, 1))
            for part in parts:
                self.assertIn(part, said)
            self.assertEqual(list(self.out.iterdir()) if self.out.exists() else [], [])

    def edited(self, family: str, layout: str = "hf", file: str = "config.json", **changes) -> Path:
        checkpoint = self.folder / f"{family}-{layout}"
        make_checkpoint(checkpoint, family, layout)
        content = json.loads((checkpoint / file).read_text())
        (checkpoint / file).write_text(json.dumps(content | changes))
        return checkpoint

    def test_folders(self):
        self.check(self.folder / "nothing", "not a checkpoint folder", "no such folder")
        self.check(self.folder, "not a checkpoint folder", "config.json")
        (self.folder / "config.json").write_text("{")
        self.check(self.folder, "config.json", "JSON")
        (self.folder / "config.json").write_text('{"model_type": "llava"}')
        self.check(self.folder, "has no weights")

    def test_shards(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava", shards=3)
        second = checkpoint / "model-00002-of-00003.safetensors"
        whole = second.read_bytes()
        second.unlink()
        self.check(checkpoint, "model-00002-of-00003.safetensors is missing")
        (checkpoint / "model.safetensors.index.json").rename(self.folder / "index")
        self.check(checkpoint, "2 of 3 shards")
        (self.folder / "index").rename(checkpoint / "model.safetensors.index.json")
        second.write_bytes(whole[:-100])
        self.check(checkpoint, "00002-of-00003.safetensors is truncated")
        second.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        self.check(checkpoint, "00002-of-00003.safetensors is no safetensors file")
        second.write_bytes(struct.pack("<Q", 2**62))
        self.check(checkpoint, "00002-of-00003.safetensors is no safetensors file")

    def test_architectures(self):
        self.check(self.edited("llava", model_type="mllama"), "architecture mllama is not known", "llava_next")
        self.check(self.edited("llava", "original", architectures=["LlavaMptForCausalLM"]), "LlavaMptForCausalLM is not known")
        self.check(self.edited("llava", "original", mm_projector_type="pool"), "projector pool is not supported")
        self.check(self.edited("llava", text_config={"model_type": "gemma"}), "language model gemma is not known")
        self.check(self.edited("llava_next", vision_feature_layer=[-2, -5]), "features of several layers")
        self.check(self.edited("llava_next", vision_feature_layer=-40), "has 11 blocks")
        self.check(self.edited("qwen2_vl", rope_scaling={"type": "mrope", "mrope_section": [16]}), "mrope_section")

    def test_weights_that_are_not_the_configurations(self):
        text = json.loads((make_checkpoint(self.folder / "plain", "llava") / "config.json").read_text())["text_config"]
        self.check(self.edited("llava", text_config=text | {"num_hidden_layers": 11}), "has no tensor layers.10.")
        self.check(self.edited("llava", text_config=text | {"num_hidden_layers": 9}), "9 tensors that its architecture does not")
        self.check(self.edited("llava", text_config=text | {"intermediate_size": 161}), "shape [160, 64]", "[161, 64]")

    def test_a_tower_that_is_only_named(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava", "original")
        self.check(checkpoint, "tiny-clip is not known by name", "--tower")
        self.check(checkpoint, "no config.json", arguments=("--tower", self.folder))
        self.check(make_checkpoint(self.folder / "hf", "llava"), "--tower", arguments=("--tower", self.folder))

    def test_tokenizers(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava_onevision")
        path = checkpoint / "tokenizer.json"
        content = json.loads(path.read_text())
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+"
        path.write_text(json.dumps(content))
        self.check(checkpoint, "the tokenizer (byte-level BPE with a pre-tokenizer of its own) is not known")
        content["model"] = {"type": "Unigram", "vocab": [["a", -1.0]]}
        path.write_text(json.dumps(content))
        self.check(checkpoint, "the tokenizer (Unigram) is not known")
        path.unlink()
        self.check(checkpoint, "has no tokenizer")
        (checkpoint / "tokenizer.model").write_bytes(b"nothing")
        self.check(checkpoint, "tokenizer.model is no sentencepiece model")

    def test_nothing_half_written_stays(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava")
        for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
            with mock.patch("convert.write.Streamed.tofile", side_effect=error):
                status, said = run(checkpoint, "--out", self.out)
            with self.subTest(said=said):
                self.assertEqual(status, 130 if isinstance(error, KeyboardInterrupt) else 1)
                self.assertEqual(list(self.out.iterdir()), [])

    def test_a_file_of_that_name_stays_when_a_later_run_fails(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava")
        self.assertEqual(run(checkpoint, "--out", self.out)[0], 0)
        before = {path: path.read_bytes() for path in self.out.iterdir()}
        with mock.patch("convert.write.Streamed.tofile", side_effect=OSError(28, "No space left on device")):
            self.assertEqual(run(checkpoint, "--out", self.out)[0], 1)
        self.assertEqual({path: path.read_bytes() for path in self.out.iterdir()}, before)


class Memory(Folder):
    def peak(self, checkpoint: Path) -> int:
        """Bytes that a process of its own takes at most."""
        code = ("import sys, resource; sys.path.insert(0, sys.argv[1]); from convert import pair; from pathlib import Path; "
                "pair.convert(pair.Job(Path(sys.argv[2]), Path(sys.argv[3]), 'x', 'f16', 'f16', only='text')); "
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
        command = [sys.executable, "-c", code, str(TOOLS), str(checkpoint), str(self.out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)

    def test_a_shard_is_never_in_memory(self):
        small = self.peak(make_checkpoint(self.folder / "small", "llava"))
        checkpoint = make_checkpoint(self.folder / "large", "llava", shards=2)
        config = json.loads((checkpoint / "config.json").read_text())
        config["text_config"]["intermediate_size"] = wide = 1 << 17
        (checkpoint / "config.json").write_text(json.dumps(config))
        for path in checkpoint.glob("*.safetensors"):
            self._widen(path, wide)
        largest = max(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
        self.assertGreater(largest, 500 << 20)
        self.assertLess(self.peak(checkpoint) - small, 128 << 20)

    def _widen(self, path: Path, wide: int):
        """The decoder's MLP gets `wide`, 32 MiB a matrix; a hole in the file stands for zeros."""
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        end = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
        for key, entry in header.items():
            if "language_model" in key and ".mlp." in key:
                entry["shape"] = [64, wide] if "down" in key else [wide, 64]
                entry["data_offsets"] = [end, end + 4 * 64 * wide]
                end += 4 * 64 * wide
        text = json.dumps(header).encode()
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + data[8 + length :])
            file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    unittest.main()
