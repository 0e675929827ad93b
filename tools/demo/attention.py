"""Whether attention received ranks what a picture shows above its ground: what merging lives on."""

import numpy as np
import torch

from . import batches


def area(scores, shares):
    """Area under the curve of `scores`, patches that things cover against bare ground."""
    thing, ground = scores[shares > 0.12], scores[shares == 0]
    if not len(thing) or not len(ground):
        return float("nan")
    rank = np.concatenate([thing, ground]).argsort().argsort()[:len(thing)] + 1
    return float((rank.sum() - len(thing) * (len(thing) + 1) / 2) / (len(thing) * len(ground)))


@torch.no_grad()
def areas(model, count=48, seed=77):
    """Mean area over `count` scenes that are the same in every call: one for each tower layer,
    then one for each decoder layer (image score)."""
    rng = np.random.default_rng(seed)
    items = [batches.scene_item(rng, model.geometry, 1) for _ in range(count)]
    device = model.newline.device
    tower, decoder = [], []
    for start in range(0, count, 8):
        some = items[start:start + 8]
        views = torch.from_numpy(np.concatenate([item.views for item in some])).to(device)
        tokens, received = model.tower(views, range(len(model.tower.layers)))
        _, scores = model.decoder.prefix(model.rows(tokens[:, None]), range(len(model.decoder.layers)))
        for found, kept in ((received, tower), (scores, decoder)):
            kept += [[area(found[layer][i].float().cpu().numpy(), item.shares) for layer in sorted(found)]
                     for i, item in enumerate(some)]
    return np.nanmean(tower, 0), np.nanmean(decoder, 0)
