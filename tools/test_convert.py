"""Checks of the converter's tensors, types and files: python -m unittest test_convert (in tools/)."""

import contextlib
import importlib.util
import io
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from checkpoints.shapes import FAMILIES, Family
from checkpoints.weights import values_of as checkpoint_values
from convert.encode import encode
from convert.problem import Problem
from convert.recommend import main as recommend
from convert.towers import named, tower_of
from make_checkpoint import HF_ONLY, make_checkpoint
from testmodels.tensors import decoder_tensors, tower_tensors

TOOLS = Path(__file__).resolve().parent


def run(*arguments) -> tuple[int, str]:
    """The converter's exit status and what it says."""
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
    found = {tensor.name: checkpoint_values(family, tensor) for tensor in decoder_tensors(family.decoder)}
    if family.decoder.arch == "llama":
        half = family.decoder.head_size // 2
        order = [j // 2 + half * (j % 2) for j in range(2 * half)]
        for name, values in found.items():
            if name.endswith(("attn_q.weight", "attn_k.weight")):
                rows = [head * 2 * half + j for head in range(len(values) // (2 * half)) for j in order]
                found[name] = values[rows]
    if family.rope:
        # Wavelengths 6.3, 20 and 63 lie below 64; of 199 the share (256 / 199 - 1) / 3 stays; the others are 8 times slower.
        share = (256 / (2 * np.pi * 10**1.5) - 1) / 3
        found["rope_freqs.weight"] = np.array([1, 1, 1, 1 / ((1 - share) / 8 + share), 8, 8, 8, 8], np.float32)
    return found


def expected_tower(family: Family, used: int) -> dict[str, np.ndarray]:
    tensors = [t for t in tower_tensors(family.tower)
               if not t.name.startswith("v.blk.") or int(t.name.split(".")[2]) < used]
    return {tensor.name: checkpoint_values(family, tensor) for tensor in tensors}


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
        checkpoint = make_checkpoint(self.folder / f"{name}-{layout}", name, layout, shards=3)
        tower = ("--tower", f"{checkpoint}-tower") if layout == "original" else ()
        text, mmproj = self.convert(checkpoint, "--type", "f32", "--tower-type", "f32", *tower)
        self.check(text, expected_text(family))
        used = family.tower.stored - (family.model != "llava_onevision" and family.tower.family != "qwen2vl")
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
                self.assertEqual(mmproj["illava.vision.family"], FAMILIES[name].model)
            shutil.rmtree(self.out)

    def test_original_layout(self):
        for name in FAMILIES:
            if name not in HF_ONLY:
                with self.subTest(family=name):
                    _, mmproj = self.check_pair(name, "original")
                    self.assertEqual(mmproj["illava.vision.family"], FAMILIES[name].model)
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

    def head(self, tied: bool, change) -> tuple[list[str], str]:
        """Names of the text model's tensors and what is said, with the weights that `change` makes."""
        from safetensors.numpy import load_file, save_file

        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava_onevision")
        config = json.loads((checkpoint / "config.json").read_text())
        config["text_config"]["tie_word_embeddings"] = config["tie_word_embeddings"] = tied
        (checkpoint / "config.json").write_text(json.dumps(config))
        weights = load_file(checkpoint / "model.safetensors")
        change(weights, "language_model.lm_head.weight", weights["language_model.model.embed_tokens.weight"])
        save_file(weights, checkpoint / "model.safetensors")
        status, said = run(checkpoint, "--out", self.out, "--name", "tiny", "--only", "text")
        self.assertEqual(status, 0, said)
        tensors = gguf.GGUFReader(next(self.out.glob("tiny-*.gguf"))).tensors
        shutil.rmtree(self.out)
        return [tensor.name for tensor in tensors], said

    def test_the_output_is_what_the_files_hold(self):
        same = lambda weights, head, table: weights.update({head: table})  # noqa: E731
        gone = lambda weights, head, table: weights.pop(head)  # noqa: E731
        other = lambda weights, head, table: None  # noqa: E731
        for tied, change, stored, remark in (
            (True, same, False, None),
            (True, gone, False, None),
            (True, other, True, "lm_head.weight differs from it: lm_head.weight is kept"),
            (False, other, True, None),
            (False, same, True, None),
            (False, gone, False, "have no lm_head.weight: the table of token vectors is taken"),
        ):
            with self.subTest(tied=tied, stored=stored, remark=remark):
                names, said = self.head(tied, change)
                self.assertEqual("output.weight" in names, stored)
                self.assertEqual("lm_head" in said, remark is not None)
                self.assertIn(remark or "", said)


class TowerElsewhere(Folder):
    """LLaVA-1.5's first layout: the tower is another download, with the text model it was trained with."""

    def split(self, family: str) -> tuple[Path, Path, dict[str, np.ndarray]]:
        from safetensors.numpy import load_file, save_file

        checkpoint = make_checkpoint(self.folder / "checkpoint", family, "original")
        tower = self.folder / "checkpoint-tower"
        weights = load_file(checkpoint / "model.safetensors")
        inside = {name: values for name, values in weights.items() if "vision_tower" in name}
        rest = {name: values for name, values in weights.items() if name not in inside}
        outside = {name.split("vision_tower.")[-1]: values for name, values in inside.items()}
        extra = {"text_model.embeddings.token_embedding.weight": np.zeros((4, 64), np.float32),
                 "logit_scale": np.zeros((1,), np.float32)}
        save_file(outside | extra, tower / "model.safetensors")
        save_file(rest, checkpoint / "model.safetensors")
        return checkpoint, tower, rest

    def check(self, mmproj: gguf.GGUFReader, family: str, used: int):
        found = {tensor.name: values_of(tensor) for tensor in mmproj.tensors}
        for name, values in expected_tower(FAMILIES[family], used).items():
            with self.subTest(tensor=name):
                np.testing.assert_array_equal(found[name], values)
        self.assertEqual(fields(mmproj)["clip.vision.feature_layer"], [used])

    def test_it_is_joined(self):
        checkpoint, tower, _ = self.split("llava")
        _, mmproj = self.convert(checkpoint, "--tower", tower, "--tower-type", "f32")
        self.check(mmproj, "llava", 10)

    def test_the_authors_leave_out_the_last_block_of_siglip(self):
        checkpoint, tower, _ = self.split("llava_onevision")
        _, mmproj = self.convert(checkpoint, "--tower", tower, "--tower-type", "f32")
        self.check(mmproj, "llava_onevision", 9)

    def test_without_it(self):
        checkpoint, tower, _ = self.split("llava")
        (tower / "model.safetensors").unlink()
        status, said = run(checkpoint, "--out", self.out, "--tower", tower)
        self.assertEqual((status, said.count("\n")), (1, 1))
        self.assertIn("no weights of its image encoder: download tiny-clip", said)

    @unittest.skipUnless(importlib.util.find_spec("torch"), "torch is not installed")
    def test_pytorch_files(self):
        import torch

        checkpoint, tower, rest = self.split("llava")
        (checkpoint / "model.safetensors").unlink()
        names = list(rest)
        index = {}
        for i, part in enumerate((names[::2], names[1::2])):
            file = f"pytorch_model-0000{i + 1}-of-00002.bin"
            torch.save({name: torch.from_numpy(rest[name]).bfloat16() for name in part}, checkpoint / file)
            index |= dict.fromkeys(part, file)
        (checkpoint / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
        text, _ = self.convert(checkpoint, "--tower", tower, "--type", "f32")
        for tensor in text.tensors:
            wanted = torch.from_numpy(expected_text(FAMILIES["llava"])[tensor.name]).bfloat16().float().numpy()
            np.testing.assert_array_equal(values_of(tensor), wanted)
        (checkpoint / "pytorch_model-00002-of-00002.bin").write_bytes(b"nothing")
        status, said = run(checkpoint, "--out", self.out, "--tower", tower)
        self.assertEqual((status, said.count("\n")), (1, 1))
        self.assertIn("cannot be read by torch", said)


class Metadata(Folder):
    def test_of_both_layouts(self):
        next_grid = [56, 112, 112, 56, 112, 112, 168, 56, 56, 168]
        cases = {
            "llava_onevision": {"illava.vision.image_aspect_ratio": "anyres_max_9", "illava.vision.anyres_max_tiles": 9,
                                "clip.vision.mm_patch_merge_type": "spatial_unpad", "clip.vision.feature_layer": [10],
                                "illava.video.frames": 32, "clip.use_gelu": True},
            "llava_next": {"illava.vision.image_aspect_ratio": "anyres", "clip.vision.class_token": "first",
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

    def test_frames_of_a_video(self):
        told = {
            ("llava_onevision", "hf", "video_preprocessor_config.json"): ({"num_frames": 16}, {"frames": 16, "pool_stride": 2}),
            ("llava_onevision", "original", "config.json"): (
                {"frames_upbound": 24, "mm_spatial_pool_stride": 3, "mm_newline_position": "grid"},
                {"frames": 24, "pool_stride": 3, "newline": "grid", "pool_mode": "bilinear"}),
            ("qwen2_vl", "hf", "video_preprocessor_config.json"): (
                {"fps": 1.0, "min_frames": 2, "max_frames": 64}, {"fps": 1.0, "min_frames": 2, "max_frames": 64}),
        }
        for (name, layout, file), (given, expected) in told.items():
            checkpoint = make_checkpoint(self.folder / f"{name}-{layout}", name, layout)
            path = checkpoint / file
            path.write_text(json.dumps(json.loads(path.read_text()) | given))
            tower = ("--tower", f"{checkpoint}-tower") if layout == "original" else ()
            _, mmproj = self.convert(checkpoint, *tower)
            found = fields(mmproj)
            for key, value in expected.items():
                with self.subTest(family=name, layout=layout, key=key):
                    self.assertEqual(found[f"illava.video.{key}"], value)
            shutil.rmtree(self.out)

    def test_a_recommended_schedule(self):
        checkpoint = make_checkpoint(self.folder / "checkpoint", "llava")
        _, mmproj = self.convert(checkpoint, "--merge-vit", "3,4:6,6", "--merge-llm", "2:0.5", "--evaluated", "a test")
        found = fields(mmproj)
        self.assertEqual(found["illava.merge.vit_layers"], [3, 4])
        self.assertEqual(found["illava.merge.llm_keep"], [0.5])
        self.assertNotIn("illava.merge.strategy", found)
        self.recommend_again(next(self.out.glob("*mmproj*")))
        for wrong in (("--merge-vit", "3:6,6"), ("--merge-llm", "2"), ("--merge-llm", "2:1.5"), ("--merge-vit", "3:6")):
            status, said = run(checkpoint, "--out", self.out, *wrong, "--evaluated", "" if "3:6" in wrong else "a test")
            self.assertEqual((status, said.count("\n")), (1, 1), said)

    def recommend_again(self, path):
        """Another recommendation changes the keys of the first, and no other key and no tensor."""
        before = gguf.GGUFReader(path)
        expected = {k: f.contents() for k, f in before.fields.items() if "merge." not in k and "GGUF." not in k}
        tensors = [(t.name, t.tensor_type, list(t.shape), t.data.tobytes()) for t in before.tensors]
        halves = ["--merge-vit", "4:9", "--merge-llm", "2:0.25"]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(recommend([str(path), *halves, "--merge-strategy", "best", "--evaluated", "x"]), 1)
        self.assertIn("choose merge, prune", said.getvalue())
        self.assertEqual(recommend([str(path), *halves, "--merge-strategy", "bipartite", "--evaluated", "x"]), 0)
        after = gguf.GGUFReader(path)
        found = {k: f.contents() for k, f in after.fields.items() if "GGUF." not in k}
        merge = {k: found.pop(k) for k in list(found) if k.startswith("illava.merge.")}
        self.assertEqual(found, expected)
        self.assertEqual([(t.name, t.tensor_type, list(t.shape), t.data.tobytes()) for t in after.tensors], tensors)
        self.assertEqual(merge["illava.merge.strategy"], "bipartite")
        self.assertEqual((merge["illava.merge.vit_r"], merge["illava.merge.llm_keep"]), ([9], [0.25]))

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


if __name__ == "__main__":
    unittest.main()
