"""The fused kernels' dropout mask, in NumPy: MurmurHash3's finaliser of seed, edge and head."""

import numpy as np
import torch


def _mix(x):
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def draw_mask(rate, num_edges, heads):
    """What the attention weights (E, H) are multiplied by; draws the seed from PyTorch."""
    seed = np.uint32(int(torch.randint(2**32, ())))
    with np.errstate(over="ignore"):
        bits = _mix(np.arange(num_edges, dtype=np.uint32) ^ seed) + seed
        offsets = np.arange(heads, dtype=np.uint32) * np.uint32(0x9E3779B9)
        mask = _mix(bits[:, None] + offsets) < np.uint64((1 - rate) * 2**32)
    return torch.from_numpy(mask / (1 - rate))
