"""Facts of a checkpoint: family, text model, tower, and how pictures reach it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

from .checkpoint import Checkpoint, Source, read_json
from .names import canonical, tower_only
from .output import Tensors
from .picture import Pictures
from .problem import Problem, say
from .towers import Tower

LLAVA, NEXT, ONEVISION, QWEN2VL = "llava", "llava_next", "llava_onevision", "qwen2_vl"


@dataclass(frozen=True)
class Text:
    """Numbers of the language model. `arch` is llama.cpp's name for it."""

    arch: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    mlp: int
    context: int
    eps: float
    rope: dict
    tied: bool
    eos: int | None
    bos: int | None


@dataclass(frozen=True)
class Model:
    family: str
    original: bool
    text: Text
    tower: Tower
    projector_activation: str
    pictures: Pictures
    text_tensors: Tensors
    tower_tensors: Tensors
    # Text that the authors' code writes around a question; chosen if the layout is theirs.
    conversation: str = field(default="")


def split(checkpoint: Checkpoint) -> tuple[dict[str, Source], dict[str, Source]]:
    """The tensors of the language model and those of tower and projector, by canonical name."""
    text, vision = {}, {}
    for name, source in checkpoint.tensors.items():
        short = canonical(name)
        if short is None:
            continue
        half = vision if short.startswith(("tower.", "projector.", "newline")) else text
        if short in half:
            raise Problem(f"{checkpoint.folder} has two tensors for {short}: {half[short].name} and {name}")
        half[short] = source
    return text, vision


def external_tower(folder: Path) -> tuple[dict, dict[str, Source]]:
    """Configuration and tensors of an image encoder in a folder of its own; perhaps without weights."""
    if not (folder / "config.json").is_file():
        raise Problem(f"--tower {folder} is not the folder of an image encoder: it has no config.json")
    config = read_json(folder / "config.json")
    config = config.get("vision_config") or config
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        return config, {}
    found = {}
    for name, source in Checkpoint(folder).tensors.items():
        short = tower_only(name)
        if short is not None:
            found[short] = source
    return config, found


def text_of(config, arch: str) -> Text:
    """From a configuration of transformers."""
    if config.hidden_act != "silu":
        raise Problem(f"the language model's activation is {config.hidden_act}; llama.cpp's graph of {arch} computes silu")
    rope = dict(getattr(config, "rope_parameters", None) or {})
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    eos = config.eos_token_id
    return Text(
        arch=arch, width=config.hidden_size, layers=config.num_hidden_layers, heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads, head_size=head_size,
        mlp=config.intermediate_size, context=_context(config), eps=config.rms_norm_eps, rope=rope,
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        eos=eos[0] if isinstance(eos, list) and eos else eos, bos=config.bos_token_id,
    )


def _context(config) -> int:
    """Tokens that the model reads as it was trained to. llama.cpp's graphs of these models know no sliding window."""
    context = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    if config.model_type == "qwen2" and not getattr(config, "use_sliding_window", False):
        window = None
    if window is None or window >= context:
        return context
    say(f"attention sees {window} tokens back (sliding_window), so the context is {window} and not {context}")
    return window


def open_model(folder: Path, tower: Path | None, adapters: Sequence[Path] = ()) -> tuple[Checkpoint, Model]:
    """Reads the configuration of either layout; `adapters` are applied one after the other."""
    from . import layout_hf, layout_original
    from .lora import apply_adapter

    checkpoint = Checkpoint(folder)
    for adapter in adapters:
        apply_adapter(checkpoint, adapter)
    layout = layout_original if "mm_vision_tower" in checkpoint.config else layout_hf
    return checkpoint, layout.read(checkpoint, tower)
