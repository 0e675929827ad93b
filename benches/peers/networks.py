"""The timed shapes as modules of transformers, with random weights in the released models' own type, bf16."""

import torch
from testmodels.shapes import TIMING_DECODERS, TIMING_TOWERS, Decoder, Tower, with_output
from torch import nn
from transformers import Qwen2Config, SiglipVisionConfig
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model
from transformers.models.siglip.modeling_siglip import SiglipVisionModel


class Encoder(nn.Module):
    """Pixels [1, 3, side, side] to rows [1, tokens, width of the text model]; the last stored block does not run."""

    def __init__(self, tower: Tower):
        super().__init__()
        self.side = tower.image
        self.blocks = SiglipVisionModel(SiglipVisionConfig(
            hidden_size=tower.width, intermediate_size=tower.mlp, num_hidden_layers=tower.stored - 1,
            num_attention_heads=tower.heads, image_size=tower.image, patch_size=tower.patch, layer_norm_eps=tower.eps,
            vision_use_head=False, attn_implementation="sdpa",
        ))
        self.projector = nn.Sequential(
            nn.Linear(tower.width, tower.projector_hidden), nn.GELU(), nn.Linear(tower.projector_hidden, tower.output)
        )

    def forward(self, pixels):
        return self.projector(self.blocks(pixels).last_hidden_state)

    def example(self):
        return torch.rand(1, 3, self.side, self.side)


class Prompt(nn.Module):
    """Embeddings [1, rows, width] to the logits of the last row. The keys and values are not kept."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.width = decoder.width
        self.layers = Qwen2Model(Qwen2Config(
            hidden_size=decoder.width, intermediate_size=decoder.mlp, num_hidden_layers=decoder.layers,
            num_attention_heads=decoder.heads, num_key_value_heads=decoder.kv_heads, vocab_size=1,
            max_position_embeddings=decoder.context, rms_norm_eps=decoder.eps, use_cache=False,
            rope_parameters={"rope_type": "default", "rope_theta": decoder.rope_base}, attn_implementation="sdpa",
        ))
        self.head = nn.Linear(decoder.width, decoder.vocabulary, bias=False)

    def forward(self, rows):
        # Attention is causal by itself; a mask that is made from the positions cannot be exported.
        places = torch.arange(rows.shape[1]).unsqueeze(0)
        mask = {"full_attention": None}
        found = self.layers(inputs_embeds=rows, position_ids=places, attention_mask=mask)
        return self.head(found.last_hidden_state[:, -1:])

    def example(self):
        return torch.rand(1, 16, self.width)


def network(name: str, projection: int) -> nn.Module:
    """A tower, whose projector is `projection` wide, or a text model."""
    with torch.device("meta"):
        if name in TIMING_TOWERS:
            module = Encoder(with_output(TIMING_TOWERS[name], projection))
        else:
            module = Prompt(TIMING_DECODERS[name])
    return module.eval()


def filled(module: nn.Module, dtype: torch.dtype, shared: bool = False) -> nn.Module:
    """Gives a module of device `meta` values: small noise, and ones for the norms.

    `shared` matrices are views of one memory of the largest one's size, with the same values: for an export, which reads
    each once. In a timed module they would stay in a cache.
    """
    torch.manual_seed(1)
    noise = torch.randn(1 << 20).mul_(0.02).to(dtype)
    largest = max(parameter.numel() for parameter in module.parameters())
    period = noise.repeat(2 + largest // noise.numel()) if shared else None

    def values(tensor, number):
        if tensor.dim() == 1:
            return torch.ones(tensor.shape, dtype=dtype)
        # Equal matrices would be stored once, and stay in a cache.
        if shared:
            return period[-number % noise.numel():][: tensor.numel()].reshape(tensor.shape)
        return noise.roll(number).repeat(-(-tensor.numel() // noise.numel()))[: tensor.numel()].reshape(tensor.shape)

    number = 0
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(values(parameter, number), requires_grad=False))
            number += 1
        for name, buffer in list(part.named_buffers(recurse=False)):
            # Places of the patches, and frequencies of the rotation.
            ramp = torch.arange(buffer.numel()) if not buffer.is_floating_point() else torch.logspace(0, -6, buffer.numel())
            part.register_buffer(name, ramp.to(buffer.dtype).reshape(buffer.shape), persistent=False)
    return module
