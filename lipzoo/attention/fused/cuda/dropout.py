"""Attention dropout as the kernels take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lipzoo.attention.fused.runtime import draw_seed

__all__ = ["Dropout"]


@dataclass(frozen=True)
class Dropout:
    """The mask of one forward pass, that its backward pass draws again.

    Parameters
    ----------
    seed : int
        The bits of an unsigned 32-bit integer as a signed one, which Triton passes as they are.
    threshold : int
        A weight is kept where its 32 random bits are below.
    kept : float
        Share of the weights that is kept.
    """

    seed: int = 0
    threshold: int = 0
    kept: float = 1.0

    @classmethod
    def draw(cls, rate: float, dtype: torch.dtype) -> Dropout:
        """Dropout at ``rate`` with a seed from PyTorch's generator of the CPU, so that a seed
        gives the same mask on either device."""
        if not rate:
            return cls()
        kept = float(np.float64(1 - rate) if dtype == torch.float64 else np.float32(1 - rate))
        # As threshold_of in fused/_arithmetic.py has it.
        threshold = int(min(kept * 2**32, 2**32 - 1))
        seed = draw_seed(rate)
        return cls(seed - 2**32 if seed >= 2**31 else seed, threshold, kept)

    @property
    def constants(self) -> dict:
        return {"THRESHOLD": self.threshold, "KEPT": self.kept}
