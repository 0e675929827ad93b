"""Checks of what can be wrong with a checkpoint, and of memory: python -m unittest test_convert_wrong (in tools/)."""

import json
import struct
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from make_checkpoint import make_checkpoint
from test_convert import TOOLS, Folder, run


class Refusals(Folder):
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


class Wrong(Refusals):
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
