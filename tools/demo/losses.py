"""The three things that training asks for."""

import torch
import torch.nn.functional as F

from .batches import IGNORED
from .vocabulary import COLORS, END, GLYPHS, SHAPES

LABELS = (len(SHAPES) + 1, len(COLORS) + 1, len(GLYPHS) + 1)
MAX_QUESTIONS = 64


def answers(logits, batch):
    """Cross entropy on the answers.  `logits` are those of the positions with a target.

    A question's tokens share the weight 1 / sqrt(their number), so that a row of fourteen
    characters counts more than a "yes", but not fourteen times.  Also says, per picture and
    segment, whether every token was the most likely one: exact match under greedy decoding.
    """
    chosen = batch["targets"] != IGNORED
    targets = batch["targets"][chosen]
    pictures = torch.arange(len(chosen), device=chosen.device)[:, None].expand_as(chosen)
    question = (pictures * MAX_QUESTIONS + batch["segments"])[chosen]
    weight = torch.where(targets == END, 0.15, 1.0)
    total = torch.zeros(len(chosen) * MAX_QUESTIONS, device=weight.device)
    total.index_add_(0, question, weight)
    weight = weight / total[question].sqrt()
    loss = (F.cross_entropy(logits, targets, reduction="none") * weight).sum() / weight.sum()
    hit = (logits.detach().argmax(-1) == targets).float()
    right = torch.ones_like(total).scatter_reduce(0, question, hit, "amin")
    return loss, right.view(-1, MAX_QUESTIONS)


def labels(logits, batch):
    """Cross entropy of the tower's tokens with their patch's shape, colour and character."""
    loss = 0.0
    for part, truth in zip(logits.split(LABELS, -1), batch["labels"].unbind(1)):
        weight = torch.where(truth > 0, 1.0, 0.1)
        each = F.cross_entropy(part.transpose(1, 2), truth, reduction="none")
        loss = loss + (each * weight).sum() / weight.sum()
    return loss


def ranking(received, shares, margin=0.35):
    """Attention received should rank things above ground, by `margin` in its logarithm on either
    side: each patch of a thing above the mean of the ground, each of the ground below the mean
    of the things.  `received` is {layer: [B, N]}; `shares` is how much of a patch a thing covers.
    """
    thing, ground = (shares > 0.12).float(), (shares == 0).float()

    def mean(values, mask):
        return (values * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)

    loss = 0.0
    for score in received.values():
        log = score.clamp_min(1e-9).log()
        low = F.softplus(4 * (margin - log + mean(log, ground)))
        high = F.softplus(4 * (margin + log - mean(log, thing)))
        loss = loss + (mean(low, thing) + mean(high, ground)).mean() / 8
    return loss / max(1, len(received))
