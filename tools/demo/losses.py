"""Cross entropy on the answers, and which of them are exact."""

import torch
import torch.nn.functional as F

from .batches import IGNORED
from .vocabulary import END

MAX_QUESTIONS = 64


def answers(logits, batch):
    """The loss, and per picture and segment whether every token was the most likely one: exact
    match under greedy decoding.  `logits` are those of the positions with a target.

    A question's tokens share the weight 1 / sqrt(their number), so that a row of fourteen
    characters counts more than a "yes", but not fourteen times.
    """
    chosen = batch["targets"] != IGNORED
    targets = batch["targets"][chosen]
    pictures = torch.arange(len(chosen), device=chosen.device)[:, None].expand_as(chosen)
    question = (pictures * MAX_QUESTIONS + batch["segments"])[chosen]
    weight = torch.where(targets == END, 0.15, 1.0)
    total = torch.zeros(len(chosen) * MAX_QUESTIONS, device=weight.device)
    total.index_add_(0, question, weight)
    weight = weight / total[question].sqrt()
    loss = (F.cross_entropy(logits.float(), targets, reduction="none") * weight).sum() / weight.sum()
    hit = (logits.detach().argmax(-1) == targets).float()
    right = torch.ones_like(total).scatter_reduce(0, question, hit, "amin")
    return loss, right.view(-1, MAX_QUESTIONS)
