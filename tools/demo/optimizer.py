"""Muon: momentum whose matrices are brought near orthogonal before each step."""

import torch


class Muon(torch.optim.Optimizer):
    """For weight matrices only. Matrices of one shape are orthogonalised in one batched
    Newton-Schulz iteration (the quintic one of Jordan et al., 2024). On a CPU that costs a fraction
    of one call per matrix."""

    def __init__(self, groups, lr, momentum=0.95):
        super().__init__(groups, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, same in shapes.items():
                updates = []
                for p in same:
                    state = self.state[p]
                    if not state:
                        state["momentum"] = torch.zeros_like(p)
                    state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(state["momentum"], group["momentum"]))
                scale = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
                for p, u in zip(same, orthogonal(torch.stack(updates))):
                    p.sub_(u, alpha=scale)


def orthogonal(g, iterations=5):
    """The nearest matrices with singular values about 1, for g of [batch, rows, columns]."""
    tall = g.shape[1] > g.shape[2]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x
