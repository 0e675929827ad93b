"""One merge step: the least attended tokens become one."""

import torch


def merge(x, scores, r):
    """Merges the r + 1 least attended of the tokens x [B, N, D] by `scores` [B, N].

    Equal scores are ordered by index.  The merged token is the mean with weights r + 1 (least
    attended) to 1 and takes the place of the most attended of the set; the order of the others
    stays.  Gives x [B, N - r, D] and the indices of the survivors, [B, N - r].
    """
    batch, n, width = x.shape
    if not 0 <= r < n:
        raise ValueError(f"cannot remove {r} of {n} tokens")
    order = scores.argsort(dim=1, stable=True)
    kept = order[:, r:].sort(1).values
    if r == 0:
        return x, kept
    weights = torch.arange(r + 1, 0, -1, device=x.device, dtype=torch.float32)
    rows = order[:, :r + 1, None].expand(-1, -1, width)
    merged = (x.gather(1, rows).float() * weights[:, None]).sum(1) / weights.sum()
    x = x.scatter(1, order[:, r:r + 1, None].expand(-1, -1, width), merged[:, None].to(x.dtype))
    return x.gather(1, kept[..., None].expand(-1, -1, width)), kept
