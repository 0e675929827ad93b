"""The tower's rows, merged for training as the engine merges them: the most alike pairs, step by step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class Merged:
    """Rows [B, n, width], the place of each in the whole grid [B, n], and how many rows it stands for [B, n]."""

    rows: torch.Tensor
    place: torch.Tensor
    size: torch.Tensor

    @property
    def span(self) -> int:
        """Rows of the whole picture, which the text stands behind."""
        return int(self.size[0].sum())


def whole(rows: torch.Tensor) -> Merged:
    """Nothing merged."""
    place = torch.arange(rows.shape[1]).expand(rows.shape[:2])
    return Merged(rows, place, torch.ones(rows.shape[:2]))


def merged(rows: torch.Tensor, count: int, steps: int = 4) -> Merged:
    """Merges [B, n, width] to `count` rows in equal steps by bipartite matching (ToMe, arXiv 2210.09461).

    A step takes at most half of the rows. In it every second row looks for the most alike of the others; the nearest pairs become their mean by size, at
    the place of the one that was looked for.
    """
    now = whole(rows)
    gone = rows.shape[1] - count
    for step in range(steps):
        go = gone // steps + (step < gone % steps)
        first, second = slice(0, None, 2), slice(1, None, 2)
        likeness = F.normalize(now.rows, dim=2)
        best, target = (likeness[:, first] @ likeness[:, second].transpose(1, 2)).max(2)
        order = best.argsort(1, descending=True)
        leaving, staying = order[:, :go], order[:, go:]
        target = target.gather(1, leaving)
        size = now.size[:, second].scatter_add(1, target, now.size[:, first].gather(1, leaving))
        weighted = now.rows * now.size[..., None]
        width = rows.shape[2]
        joining = weighted[:, first].gather(1, leaving[..., None].expand(-1, -1, width))
        summed = weighted[:, second].scatter_add(1, target[..., None].expand(-1, -1, width), joining)
        kept = now.rows[:, first].gather(1, staying[..., None].expand(-1, -1, width))
        place = torch.cat([now.place[:, first].gather(1, staying), now.place[:, second]], 1)
        all_rows = torch.cat([kept, summed / size[..., None]], 1)
        all_sizes = torch.cat([now.size[:, first].gather(1, staying), size], 1)
        by_place = place.argsort(1)
        now = Merged(
            all_rows.gather(1, by_place[..., None].expand(-1, -1, width)), place.gather(1, by_place), all_sizes.gather(1, by_place)
        )
    return now
