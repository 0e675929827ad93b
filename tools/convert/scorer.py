"""The file of a text-image model: CLIP's two towers and its tokenizer, and CLIPSeg's decoder if there is one.

Everything that can be wrong with the checkpoint is found before a byte is written. What the program would compute for
every picture is computed here once: the position table at the processor's size, and the kernels as matrices.
"""

import contextlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import gguf
import numpy as np

from .checkpoint import Checkpoint
from .encode import DIRECT
from .metadata import Origin
from .output import KERNEL, MATRIX, TABLE, VECTOR, Output, Tensors
from .problem import Problem, say
from .processor import FILTERS, check_size, image_processor, normalisation
from .write import under_another_name, write_gguf

TYPES = ("f32", "f16", "q8_0")
_KINDS = ("clip", "clipseg")
_ACTIVATIONS = ("quick_gelu", "gelu")
_BLOCK = {"ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
          "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Shape:
    width: int
    mlp: int
    heads: int
    blocks: int
    eps: float
    activation: str

    def write(self, writer: gguf.GGUFWriter, half: str) -> None:
        for key, value in (("embedding_length", self.width), ("feed_forward_length", self.mlp),
                           ("attention.head_count", self.heads), ("block_count", self.blocks)):
            writer.add_uint32(f"scorer.{half}.{key}", value)
        writer.add_float32(f"scorer.{half}.attention.layer_norm_epsilon", self.eps)


@dataclass(frozen=True)
class Vocabulary:
    tokens: list[str]
    merges: list[str]
    begin: int
    end: int


class Model:
    """Facts of a checkpoint of transformers' CLIPModel, CLIPSegModel or CLIPSegForImageSegmentation."""

    def __init__(self, folder: Path):
        self.checkpoint = Checkpoint(folder)
        self.kind = str(self.checkpoint.config.get("model_type"))
        if self.kind not in _KINDS:
            raise Problem(f"{folder} is a {self.kind}, not a text-image model; {' and '.join(_KINDS)} are, with both towers")
        config = self.config = _resolved(self.kind, self.checkpoint)
        self.text = _shape("text", config.text_config)
        self.vision = _shape("vision", config.vision_config)
        self.projection = int(config.projection_dim)
        self.vocabulary = _vocabulary(self.checkpoint)
        if len(self.vocabulary.tokens) > config.text_config.vocab_size:
            raise Problem(f"{folder}: the tokenizer has {len(self.vocabulary.tokens)} tokens, the text tower "
                          f"{config.text_config.vocab_size}")
        self._check_end(config.text_config)
        processor = image_processor(self.checkpoint)
        self.mean, self.std = normalisation(processor)
        self.filter = FILTERS[processor.get("resample", 3)]
        self.patch = int(config.vision_config.patch_size)
        self.trained = int(config.vision_config.image_size)
        self.side = self._side(processor)
        self.prefix = "clip." if any(name.startswith("clip.") for name in self.checkpoint.tensors) else ""
        self.has_map = any(name.startswith("decoder.") for name in self.checkpoint.tensors)
        if self.has_map and self.kind != "clipseg":
            raise Problem(f"{folder}: a CLIP with tensors of a decoder is not known")
        self.tensors = Tensors(str(folder), dict(self.checkpoint.tensors))

    def _check_end(self, text) -> None:
        """The text's features are taken at its end mark; older configurations mean the largest id by 2."""
        end, largest = self.vocabulary.end, len(self.vocabulary.tokens) - 1
        if text.eos_token_id == 2 and end != largest or text.eos_token_id not in (2, end):
            raise Problem(f"{self.checkpoint.folder}: the text tower ends its texts with token {text.eos_token_id}, "
                          f"the tokenizer with {end}")

    def _side(self, processor: dict) -> int:
        """Pixels per side of a picture. CLIPSeg's position table is stretched to its processor's size."""
        if self.kind == "clip":
            check_size(processor, self.trained)
            return self.trained
        size = processor.get("size", self.trained)
        sides = set(size.values()) if isinstance(size, dict) else {size}
        side = sides.pop() if len(sides) == 1 else 0
        if not isinstance(side, int) or side < self.patch or side % self.patch:
            raise Problem(f"{self.checkpoint.folder}: the image processor has size {size}; a square of whole patches of "
                          f"{self.patch} pixels is needed")
        return side


def _resolved(kind: str, checkpoint: Checkpoint):
    """The configuration with transformers' defaults for what it leaves out."""
    with contextlib.redirect_stderr(io.StringIO()):
        from transformers import CLIPConfig, CLIPSegConfig

        return (CLIPSegConfig if kind == "clipseg" else CLIPConfig).from_dict(checkpoint.config)


def _shape(half: str, config) -> Shape:
    if config.hidden_act not in _ACTIVATIONS:
        raise Problem(f"the {half} tower's activation is {config.hidden_act}; {' and '.join(_ACTIVATIONS)} are supported")
    return Shape(config.hidden_size, config.intermediate_size, config.num_attention_heads, config.num_hidden_layers,
                 float(config.layer_norm_eps), config.hidden_act)


def _vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """From vocab.json with merges.txt, or from tokenizer.json."""
    folder, fast = checkpoint.folder, checkpoint.json("tokenizer.json").get("model") or {}
    vocab, merges = checkpoint.json("vocab.json"), checkpoint.text("merges.txt")
    if vocab and merges is not None:
        pairs = [line for line in merges.split("\n") if line.strip() and not line.startswith("#version")]
    elif fast.get("type") == "BPE" and fast.get("end_of_word_suffix") == "</w>":
        vocab = dict(fast["vocab"])
        pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in fast["merges"]]
    else:
        raise Problem(f"{folder} has no tokenizer of CLIP: neither vocab.json with merges.txt nor tokenizer.json")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise Problem(f"{folder}: the ids of the tokenizer's {len(vocab)} tokens are not 0 to {len(vocab) - 1}")
    missing = next((mark for mark in (_BEGIN, _END) if mark not in vocab), None)
    if missing:
        raise Problem(f"{folder}: the tokenizer has no {missing}, so it is none of CLIP's")
    return Vocabulary(sorted(vocab, key=vocab.get), pairs, vocab[_BEGIN], vocab[_END])


def _rows(values: Callable[[], np.ndarray]) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: values()[start:stop]


def _whole(source) -> np.ndarray:
    return source.rows(0, source.shape[0])


def cubic_weights(size: int, target: int) -> np.ndarray:
    """[target, size] weights of torch's bicubic interpolation without antialiasing (a = -0.75), f64."""
    def weight(x: float) -> float:
        a, x = -0.75, abs(x)
        if x <= 1:
            return ((a + 2) * x - (a + 3)) * x * x + 1
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0

    matrix = np.zeros((target, size))
    for i in range(target):
        centre = (i + 0.5) * size / target - 0.5
        first = math.floor(centre)
        for tap in range(first - 1, first + 3):
            matrix[i, min(max(tap, 0), size - 1)] += weight(centre - tap)
    return matrix


def _positions(table: np.ndarray, side: int) -> np.ndarray:
    """The class token's row, and the patches' rows stretched to side x side; f32."""
    trained = math.isqrt(len(table) - 1)
    if trained == side:
        return table
    stretch = cubic_weights(trained, side)
    grid = table[1:].reshape(trained, trained, -1).astype(np.float64)
    grid = np.einsum("yr,xc,rcd->yxd", stretch, stretch, grid)
    return np.concatenate([table[:1], grid.reshape(side * side, -1).astype(np.float32)])


def _blocks(model: Model, shape: Shape, prefix: str, source: str) -> list[Output]:
    found = []
    for i in range(shape.blocks):
        for ours, theirs in _BLOCK.items():
            n_out = shape.mlp if ours == "ffn_up" else shape.width
            n_in = shape.mlp if ours == "ffn_down" else shape.width
            weight = (shape.width,) if ours.startswith("ln") else (n_out, n_in)
            for kind, size in (("weight", weight), ("bias", weight[:1])):
                found.append(model.tensors.plain(f"{prefix}.blk.{i}.{ours}.{kind}", f"{source}.{i}.{theirs}.{kind}", size))
    return found


def _norm(model: Model, name: str, source: str, width: int) -> list[Output]:
    return [model.tensors.plain(f"{name}.{kind}", f"{source}.{kind}", (width,)) for kind in ("weight", "bias")]


def outputs(model: Model) -> list[Output]:
    tensors, text, vision = model.tensors, model.text, model.vision
    t, v, config = model.prefix + "text_model.", model.prefix + "vision_model.", model.config
    found = [
        tensors.plain("t.token_embd.weight", t + "embeddings.token_embedding.weight",
                      (config.text_config.vocab_size, text.width), TABLE),
        tensors.plain("t.position_embd.weight", t + "embeddings.position_embedding.weight",
                      (config.text_config.max_position_embeddings, text.width), VECTOR),
        *_norm(model, "t.post_ln", t + "final_layer_norm", text.width),
        tensors.plain("t.projection.weight", model.prefix + "text_projection.weight", (model.projection, text.width)),
        *_blocks(model, text, "t", t + "encoder.layers"),
    ]
    kernel = tensors.get(v + "embeddings.patch_embedding.weight", (vision.width, 3, model.patch, model.patch))
    table = tensors.get(v + "embeddings.position_embedding.weight",
                        ((model.trained // model.patch) ** 2 + 1, vision.width))
    side, area = model.side // model.patch, 3 * model.patch**2
    found += [
        tensors.plain("v.class_embd", v + "embeddings.class_embedding", (vision.width,)),
        Output("v.patch_embd.weight", (vision.width, area), KERNEL,
               lambda start, stop: kernel.rows(start, stop).reshape(stop - start, area)),
        Output("v.position_embd.weight", (side * side + 1, vision.width), VECTOR,
               _rows(lambda: _positions(_whole(table), side))),
        *_norm(model, "v.pre_ln", v + "pre_layrnorm", vision.width),
        *_norm(model, "v.post_ln", v + "post_layernorm", vision.width),
        tensors.plain("v.projection.weight", model.prefix + "visual_projection.weight", (model.projection, vision.width)),
        *_blocks(model, vision, "v", v + "encoder.layers"),
    ]
    tensors.get(model.prefix + "logit_scale", ())
    if model.has_map:
        found += _decoder(model)
    tensors.finish(ignored=[name for name in tensors.sources if name.endswith(".position_ids")])
    return found


def _decoder(model: Model) -> list[Output]:
    """A transposed convolution whose stride is its kernel is a matrix: rows (y, x, channel out), columns channel in."""
    tensors, config, shape = model.tensors, model.config, decoder_shape(model)
    width = shape.width
    found = _blocks(model, shape, "d", "decoder.layers")
    linear = [(f"reduce.{i}", f"reduces.{i}", model.vision.width) for i in range(shape.blocks)]
    for ours, theirs, n_in in (*linear, ("film_mul", "film_mul", model.projection), ("film_add", "film_add", model.projection)):
        found.append(tensors.plain(f"d.{ours}.weight", f"decoder.{theirs}.weight", (width, n_in)))
        found.append(tensors.plain(f"d.{ours}.bias", f"decoder.{theirs}.bias", (width,)))

    def kernel(name: str, source: str, n_in: int, n_out: int, side: int) -> None:
        stored = tensors.get(f"decoder.{source}.weight", (n_in, n_out, side, side))
        rows = _rows(lambda: np.ascontiguousarray(_whole(stored).transpose(2, 3, 1, 0).reshape(-1, n_in)))
        found.append(Output(f"d.{name}.weight", (side * side * n_out, n_in), MATRIX, rows))
        found.append(tensors.plain(f"d.{name}.bias", f"decoder.{source}.bias", (n_out,)))

    first, last = kernel_sides(model)
    if config.use_complex_transposed_convolution:
        found.append(tensors.plain("d.conv.weight", "decoder.transposed_convolution.0.weight", (width, width, 3, 3), KERNEL))
        found.append(tensors.plain("d.conv.bias", "decoder.transposed_convolution.0.bias", (width,)))
        kernel("up.0", "transposed_convolution.2", width, width // 2, first)
        kernel("up.1", "transposed_convolution.4", width // 2, 1, last)
    else:
        kernel("up.1", "transposed_convolution", width, 1, last)
    return found


def decoder_shape(model: Model) -> Shape:
    config = model.config
    return Shape(config.reduce_dim, config.decoder_intermediate_size, config.decoder_num_attention_heads,
                 len(config.extract_layers), model.vision.eps, "relu")


def kernel_sides(model: Model) -> tuple[int, int]:
    """Sides of the two transposed convolutions; the first is 0 if there is one alone."""
    quarter = model.patch // 4
    return (quarter, quarter) if model.config.use_complex_transposed_convolution else (0, model.patch)


def write_metadata(writer: gguf.GGUFWriter, model: Model) -> None:
    config, vocabulary = model.config, model.vocabulary
    writer.add_string("scorer.kind", "clipseg" if model.has_map else "clip")
    writer.add_uint32("scorer.projection_length", model.projection)
    scale = model.tensors.sources[model.prefix + "logit_scale"]
    writer.add_float32("scorer.logit_scale", float(np.asarray(scale.rows(0, 1)).reshape(-1)[0]))
    model.text.write(writer, "text")
    writer.add_string("scorer.text.activation", model.text.activation)
    writer.add_uint32("scorer.text.vocab_size", config.text_config.vocab_size)
    writer.add_uint32("scorer.text.context_length", config.text_config.max_position_embeddings)
    model.vision.write(writer, "vision")
    writer.add_string("scorer.vision.activation", model.vision.activation)
    writer.add_uint32("scorer.vision.patch_size", model.patch)
    writer.add_uint32("scorer.vision.image_size", model.side)
    writer.add_array("scorer.vision.image_mean", model.mean)
    writer.add_array("scorer.vision.image_std", model.std)
    writer.add_string("scorer.vision.resampling", model.filter)
    writer.add_tokenizer_model("clip")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.begin)
    writer.add_eos_token_id(vocabulary.end)
    if model.has_map:
        decoder_shape(model).write(writer, "decoder")
        writer.add_uint32("scorer.decoder.conditional_layer", config.conditional_layer)
        # The decoder's first layer takes the deepest of them.
        writer.add_array("scorer.decoder.taken_layers", [int(layer) for layer in reversed(config.extract_layers)])
        first, last = kernel_sides(model)
        writer.add_uint32("scorer.decoder.first_side", first)
        writer.add_uint32("scorer.decoder.last_side", last)


def convert(folder: Path, out: Path, name: str, kind: str) -> Path:
    """Writes OUT/NAME-KIND.gguf."""
    if "/" in name or not name:
        raise Problem(f"--name {name!r} cannot be part of a file's name")
    model = Model(folder)
    if model.has_map and max(model.config.extract_layers) >= model.vision.blocks:
        raise Problem(f"{folder}: the decoder takes layer {max(model.config.extract_layers)} of {model.vision.blocks}")
    tensors = outputs(model)
    base, file_type = DIRECT[kind]
    path = out / f"{name}-{kind.upper()}.gguf"
    with under_another_name(path) as part:
        writer = gguf.GGUFWriter(path=None, arch="scorer")
        writer.add_type("scorer")
        Origin(folder, name).write(writer, tensors)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        write_metadata(writer, model)
        write_gguf(part, writer, tensors, base)
    say(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return path
