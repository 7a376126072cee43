"""Fused attention kernels for GPUs, in Triton, which is imported at the first use."""

from lipzoo.attention.fused.cuda.function import cuda_attention, suits_cuda

__all__ = ["cuda_attention", "suits_cuda"]
