"""Shapes of the test pairs and of the models whose speed is measured."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tower:
    """An image encoder and its projector.

    `stored` blocks are in the file. The LLaVA graph runs `stored - 1` of them
    (features of the layer before the last), the Qwen2-VL graph runs all.
    """

    family: str  # "siglip", "clip" or "qwen2vl"
    image: int
    patch: int
    width: int
    heads: int
    stored: int
    mlp: int
    eps: float
    projector_hidden: int
    output: int
    mlp_padded_from: int | None = None

    @property
    def tokens(self) -> int:
        return (self.image // self.patch) ** 2


@dataclass(frozen=True)
class Decoder:
    """A language model. `rope_sections` is set for M-RoPE only."""

    arch: str  # as general.architecture
    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    context: int
    rope_base: float
    eps: float
    tied: bool
    rope_sections: tuple[int, int, int, int] | None = None
    experts: int = 0  # of which each token takes two
    deepstack: int = 0  # first layers that add image features
    window: int = 0  # tokens that layers with a sliding window see
    window_every: int = 0  # every n-th layer sees all; 0: as the library takes it
    rotated: int = 0  # values of a head that turn; 0: all
    head: int = 0  # values of a head, if not width / heads
    # Granite's factors of embeddings, of what a layer adds, of keys by queries; and the divisor of logits.
    scales: tuple[float, float, float, float] | None = None
    window_head: int = 0  # values of a head in layers with a window; 0: as in the others
    full_kv_heads: int = 0  # in layers without a window, whose values are their keys; 0: as in the others
    dense: int = 0  # first layers without experts
    guessing: int = 0  # layers behind the last one that would guess further tokens; without weights
    variant: str = ""  # behind the architecture's name, if it has several shapes

    @property
    def head_size(self) -> int:
        return self.head or self.width // self.heads

    @property
    def name(self) -> str:
        return self.arch + self.variant

    def windowed(self, layer: int) -> bool:
        return self.window_every > 0 and layer % self.window_every < self.window_every - 1

    def head_of(self, layer: int) -> int:
        return self.window_head or self.head_size if self.windowed(layer) else self.head_size

    def kv_heads_of(self, layer: int) -> int:
        return self.kv_heads if self.windowed(layer) else self.full_kv_heads or self.kv_heads


@dataclass(frozen=True)
class Pair:
    tower: Tower
    decoder: Decoder
    seed: int
    family: str | None = None  # whose keys a converted file has; None as older files are
    activation: str | None = None  # of encoder and projector, as a file names it; None as llama.cpp's own converter


# The three small pairs have an output matrix of their own: with a tied one a random
# model repeats its last token, and generated text would show nothing.
PAIRS = {
    # Head size 16 in both halves, GQA 2.
    "siglip-qwen2": Pair(
        Tower("siglip", 80, 8, 64, 4, 10, 160, 1e-6, 64, 64),
        Decoder("qwen2", 64, 10, 4, 2, 160, 384, 4096, 1e6, 1e-6, tied=False),
        seed=1,
    ),
    # Class token, pre-layernorm, no GQA.
    "clip-llama": Pair(
        Tower("clip", 80, 8, 64, 4, 10, 160, 1e-5, 64, 64),
        Decoder("llama", 64, 10, 4, 4, 160, 384, 4096, 1e4, 1e-5, tied=False),
        seed=2,
    ),
    # Head size 32 in the decoder, so that its KV cache can be q8_0 or q4_0.
    "qwen2vl": Pair(
        Tower("qwen2vl", 560, 8, 64, 4, 9, 160, 1e-6, 256, 128),
        Decoder("qwen2vl", 128, 10, 4, 2, 160, 384, 4096, 1e6, 1e-6, False, (4, 6, 6, 0)),
        seed=3,
    ),
    # Every matrix row is a multiple of 256 wide, which Q4_K needs; head size 64, tied.
    "siglip-qwen2-wide": Pair(
        Tower("siglip", 80, 8, 256, 4, 4, 512, 1e-6, 256, 256),
        Decoder("qwen2", 256, 3, 4, 2, 512, 384, 4096, 1e6, 1e-6, tied=True),
        seed=4,
    ),
    # LLaVA-OneVision's 27 x 27 patches, and layers enough for each preset, at a small width.
    "onevision-27": Pair(
        Tower("siglip", 216, 8, 32, 2, 9, 64, 1e-6, 32, 32),
        Decoder("qwen2", 32, 10, 2, 1, 64, 384, 8192, 1e6, 1e-6, tied=False),
        seed=5,
        family="llava_onevision",
    ),
    # The exact GELU in encoder and projector.
    "siglip-gelu": Pair(
        Tower("siglip", 80, 8, 64, 4, 10, 160, 1e-6, 64, 64),
        Decoder("qwen2", 64, 10, 4, 2, 160, 384, 4096, 1e6, 1e-6, tied=False),
        seed=6,
        activation="gelu",
    ),
}

TIMING_TOWERS = {
    "siglip-so400m": Tower("siglip", 384, 14, 1152, 16, 27, 4304, 1e-6, 896, 896),
    # 54 x 54 patches in one sequence.
    "siglip-so400m-756": Tower("siglip", 756, 14, 1152, 16, 27, 4304, 1e-6, 896, 896),
    "clip-l-336": Tower("clip", 336, 14, 1024, 16, 24, 4096, 1e-5, 896, 896),
    # Few tokens, for text models whose prompts take minutes.
    "clip-112": Tower("clip", 112, 14, 256, 4, 24, 1024, 1e-5, 896, 896),
    "qwen2vl-vit": Tower("qwen2vl", 560, 14, 1280, 16, 32, 5120, 1e-6, 5120, 3584),
}

def _small(arch: str, sections: tuple[int, int, int, int] | None = None, **more) -> Decoder:
    return Decoder(arch, 64, 4, 4, 2, 160, 384, 4096, 1e6, 1e-6, False, sections, **more)


# Gemma 3's window; heads of 16 behind it and of 32 in the other layers, whose values are their keys.
_GEMMA4 = {"window": 16, "window_every": 2, "head": 32, "window_head": 16, "full_kv_heads": 1}

# One text model of each architecture that merges and is in no pair above.
DECODERS = {
    shape.name: shape
    for shape in (
        _small("ernie4_5"),
        # A window smaller than the picture, in layers 0 and 2.
        _small("gemma3", window=16, window_every=2),
        _small("gemma4", **_GEMMA4),
        _small("gemma4", **_GEMMA4, experts=6, variant="-moe"),
        _small("glm4", (2, 1, 1, 0), rotated=8),
        _small("glm4moe", (2, 1, 1, 0), rotated=8, experts=6, dense=1, guessing=1),
        _small("granite", scales=(1.5, 0.75, 0.3, 0.5)),
        _small("internlm2"),
        _small("mistral3"),
        _small("paddleocr", (3, 3, 2, 0)),
        _small("phi3"),
        _small("qwen3"),
        _small("qwen3moe", experts=6),
        _small("qwen3vl", (3, 3, 2, 0), deepstack=2),
        _small("qwen3vlmoe", (3, 3, 2, 0), experts=6, deepstack=2),
        _small("smollm3"),
    )
}

TIMING_DECODERS = {
    "qwen2-0.5b": Decoder("qwen2", 896, 24, 14, 2, 4864, 151936, 32768, 1e6, 1e-6, tied=True),
    "qwen2-1.5b": Decoder("qwen2", 1536, 28, 12, 2, 8960, 151936, 32768, 1e6, 1e-6, tied=True),
    "qwen2-7b": Decoder("qwen2", 3584, 28, 28, 4, 18944, 152064, 32768, 1e6, 1e-6, tied=False),
    "qwen2vl-7b": Decoder(
        "qwen2vl", 3584, 28, 28, 4, 18944, 152064, 32768, 1e6, 1e-6, False, (16, 24, 24, 0)
    ),
    # Shapes of the two above. Each is named after the projector whose marks its vocabulary has.
    "qwen2.5vl-7b": Decoder(
        "qwen2vl", 3584, 28, 28, 4, 18944, 152064, 32768, 1e6, 1e-6, False, (16, 24, 24, 0)
    ),
    "internvl3-8b": Decoder("qwen2", 3584, 28, 28, 4, 18944, 152064, 32768, 1e6, 1e-6, tied=False),
    "qwen3vl-8b": Decoder(
        "qwen3vl", 4096, 36, 32, 8, 12288, 151936, 32768, 5e6, 1e-6, False, (24, 20, 20, 0), deepstack=3
    ),
    "gemma3-4b": Decoder(
        "gemma3", 2560, 34, 8, 4, 10240, 262144, 131072, 1e6, 1e-6, True, window=1024, window_every=6, head=256
    ),
    "mistral-7b": Decoder("llama", 4096, 32, 32, 8, 14336, 32064, 32768, 1e6, 1e-5, tied=False),
    "vicuna-7b": Decoder("llama", 4096, 32, 32, 32, 11008, 32064, 4096, 1e4, 1e-5, tied=False),
    "vicuna-13b": Decoder("llama", 5120, 40, 40, 40, 13824, 32000, 4096, 1e4, 1e-5, tied=False),
    "yi-34b": Decoder("llama", 7168, 60, 56, 8, 20480, 64000, 4096, 5e6, 1e-5, tied=False),
}


def padded_for_blocks(tower: Tower) -> Tower:
    """The tower with its MLP width rounded up to whole blocks of 32.

    SigLIP-so400m's 4304 is 134.5 blocks. Zero rows and columns change no
    value: a zero row of the first matrix with a zero bias gives GELU(0) = 0,
    and the zero columns of the second ignore it.
    """
    width = -(-tower.mlp // 32) * 32
    if width == tower.mlp:
        return tower
    return replace(tower, mlp=width, mlp_padded_from=tower.mlp)


def with_output(tower: Tower, width: int) -> Tower:
    """The tower with a projector for a language model of `width`."""
    hidden = tower.projector_hidden if tower.family == "qwen2vl" else width
    return replace(tower, projector_hidden=hidden, output=width)
