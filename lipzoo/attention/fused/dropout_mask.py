"""Attention dropout as the kernels take it: a mask that is a function of seed, edge and head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["KEEP_ALL", "DropoutMask"]

#: Below this number all 32-bit numbers lie, as far as the kernels look: nothing is dropped.
KEEP_ALL = 2**32 - 1


@dataclass(frozen=True)
class DropoutMask:
    """The mask of one forward pass, that its backward pass draws again.

    The kernels multiply by the mask alone; :meth:`rescale` divides by the share that is kept.

    Parameters
    ----------
    seed : int or Tensor ()
        32 bits.
    kept : float
        Share of the weights that is kept.
    """

    seed: int | Tensor = 0
    kept: float = 1.0

    @classmethod
    def draw(cls, rate: float) -> DropoutMask:
        """The mask at ``rate`` with a seed from PyTorch's generator of the CPU, so that a seed
        gives the same mask on every device."""
        if not rate:
            return cls()
        seed = torch.randint(2**32, ())
        # A compiler sees no numbers.
        return cls(seed if torch.compiler.is_compiling() else int(seed), 1 - rate)

    @property
    def threshold(self) -> int:
        """A weight is kept where its 32 random bits are below."""
        return min(int(self.kept * 2**32), KEEP_ALL)

    @property
    def drops(self) -> bool:
        """Whether any weight may be dropped."""
        return self.threshold < KEEP_ALL

    @property
    def numbers(self) -> tuple[np.uint32, np.uint32]:
        """Seed and threshold, as the CPU's kernels take them."""
        return np.uint32(int(self.seed)), np.uint32(self.threshold)

    def mask(self, num_edges: int, heads: int, device: torch.device) -> Tensor | None:
        """Which weights are kept, (E, H): what ``keep`` in ``_edges.py`` draws for all edges
        and heads; None where nothing is dropped."""
        if not self.drops:
            return None
        edge = torch.arange(num_edges, device=device).unsqueeze(1)
        head = torch.arange(heads, device=device) * 0x9E3779B9
        bits = _mix((edge & KEEP_ALL) ^ self.seed) + self.seed
        return _mix((bits + head) & KEEP_ALL) < self.threshold

    def rescale(self, out: Tensor) -> Tensor:
        """The mean is kept: divided by the share that is kept."""
        return out / self.kept if 0 < self.kept < 1 else out


def _mix(x: Tensor) -> Tensor:
    """``build_mix`` in ``_arithmetic.py``, on 32 bits in 64."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & KEEP_ALL
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & KEEP_ALL
    return x ^ (x >> 16)
