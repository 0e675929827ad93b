"""Image encoders: their numbers, and those that a configuration only names."""

from dataclasses import dataclass

from .problem import Problem

CLIP, SIGLIP, QWEN2VL = "clip", "siglip", "qwen2vl"
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
# "gelu" is the exact one; gelu_new is the tanh approximation under its older name.
_ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_pytorch_tanh", "gelu_new": "gelu_pytorch_tanh",
                "quick_gelu": "quick_gelu"}


@dataclass(frozen=True)
class Tower:
    """`blocks` as configured; `used` of them lie before the features that the projector takes."""

    kind: str
    image: int
    patch: int
    width: int
    heads: int
    mlp: int
    blocks: int
    used: int
    eps: float
    activation: str  # "gelu", "gelu_pytorch_tanh" or "quick_gelu"
    mean: list[float]
    std: list[float]

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2


# The towers of the original releases, whose configurations give a name and no numbers.
_NAMED = {
    "clip-vit-large-patch14-336": dict(model_type="clip_vision_model", image_size=336, patch_size=14, hidden_size=1024,
                                       intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                                       layer_norm_eps=1e-5, hidden_act="quick_gelu"),
    "siglip-so400m-patch14-384": dict(model_type="siglip_vision_model", image_size=384, patch_size=14, hidden_size=1152,
                                      intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
                                      layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh"),
}


def named(name: str) -> dict:
    """The configuration of a tower known by the last part of its name."""
    known = _NAMED.get(name.rstrip("/").rsplit("/", 1)[-1].lower())
    if known is None:
        raise Problem(f"the image encoder {name} is not known by name ({', '.join(_NAMED)} are): "
                      "give the folder of its checkpoint with --tower")
    return known


def activation_of(name: str) -> str:
    """The activation that a configuration calls `name`."""
    if name not in _ACTIVATIONS:
        raise Problem(f"the image encoder's activation {name} is not supported; {', '.join(_ACTIVATIONS)} are")
    return _ACTIVATIONS[name]


def tower_of(config: dict, used: int, mean: list[float] | None = None, std: list[float] | None = None) -> Tower:
    """From the keys of a CLIP or SigLIP vision configuration."""
    kind = str(config.get("model_type") or "clip_vision_model")
    if not kind.startswith(("clip", "siglip")) or kind.startswith("siglip2"):
        raise Problem(f"the image encoder is a {kind}, which is not supported; CLIP and SigLIP are")
    siglip = kind.startswith("siglip")
    try:
        numbers = {ours: int(config[theirs]) for ours, theirs in (
            ("image", "image_size"), ("patch", "patch_size"), ("width", "hidden_size"), ("heads", "num_attention_heads"),
            ("mlp", "intermediate_size"), ("blocks", "num_hidden_layers"))}
    except KeyError as error:
        raise Problem(f"the image encoder's configuration has no usable {error.args[0]}") from None
    eps = float(config.get("layer_norm_eps", 1e-6 if siglip else 1e-5))
    if not 1 <= used <= numbers["blocks"]:
        raise Problem(f"the image encoder has {numbers['blocks']} blocks, its features are to come after block {used}")
    return Tower(SIGLIP if siglip else CLIP, **numbers, used=used, eps=eps,
                 activation=activation_of(config.get("hidden_act", "gelu_pytorch_tanh" if siglip else "quick_gelu")),
                 mean=mean or ([0.5] * 3 if siglip else CLIP_MEAN), std=std or ([0.5] * 3 if siglip else CLIP_STD))
