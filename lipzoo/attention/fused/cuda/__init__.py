"""Fused attention kernels for GPUs, in Triton, which is imported at the first use."""

from lipzoo.attention.fused.cuda.function import cuda_attention, suits_cuda
from lipzoo.attention.fused.cuda.together import cuda_attention_together, suits_together

__all__ = ["cuda_attention", "cuda_attention_together", "suits_cuda", "suits_together"]
