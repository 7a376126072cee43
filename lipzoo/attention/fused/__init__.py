"""Fused attention kernels: scores, score norm, softmax, dropout and sum in one pass."""

from lipzoo.attention.fused.function import fused_attention, suits_fused
from lipzoo.attention.fused.index import compact

__all__ = ["compact", "fused_attention", "suits_fused"]
