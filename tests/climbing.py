"""One inequality at one node, climbed by gradient ascent."""

import torch


def climb(ratio, shapes, starts=6, steps=250):
    """Largest value of ``ratio(*tensors)`` over tensors of these shapes."""
    best = 0.0
    for seed in range(starts):
        generator = torch.Generator().manual_seed(seed)
        tensors = [
            torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
            for shape in shapes
        ]
        optimizer = torch.optim.Adam(tensors, lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            value = ratio(*tensors)
            best = max(best, value.item())
            (-value).backward()
            optimizer.step()
    return best


def covariance(p, v, x):
    return (p.unsqueeze(1) * (v - p @ v) * x.unsqueeze(1)).sum(0)
