"""Fused attention kernels: scores, score norm, softmax, dropout and sum in one pass."""

from lipzoo.attention.fused.function import fused_attention, suits_fused

__all__ = ["fused_attention", "suits_fused"]
