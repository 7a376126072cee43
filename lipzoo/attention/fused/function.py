"""The fused kernels as a function of autograd."""

from __future__ import annotations

import importlib.util
import os
import threading
from functools import cache

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused.index import NUM_CHUNKS, kernel_index
from lipzoo.attention.score_norms import LipschitzNorm, ScoreNorm
from lipzoo.attention.scores import AdditiveScores, Scores
from lipzoo.attention.structure import Structure

__all__ = ["fused_attention", "suits_fused"]

# Numba's "workqueue" survives a fork (GNU OpenMP's parallel kernels do not), but runs one
# kernel at a time: a second Python thread has to wait.
_ONE_AT_A_TIME = threading.Lock()

#: 32-bit counters number the attention weights; sizes beyond that go to another backend.
_MAX_WEIGHTS = 2**31 - 1


def suits_fused(scores: Scores, score_norm: ScoreNorm | None, structure: Structure) -> bool:
    """Whether the kernels compute this: additive scores (N, H, D) on the CPU, with
    :class:`~lipzoo.attention.LipschitzNorm` or none, in float32 or float64."""
    if not isinstance(scores, AdditiveScores) or type(score_norm) not in (
        type(None),
        LipschitzNorm,
    ):
        return False
    v = scores.v_src
    return (
        v.device.type == "cpu"
        and v.dtype in (torch.float32, torch.float64)
        and v.dim() == 3
        and 0 < structure.num_edges * v.shape[1] <= _MAX_WEIGHTS
        and _has_numba()
    )


@cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def fused_attention(
    structure: Structure,
    scores: AdditiveScores,
    score_norm: LipschitzNorm | None = None,
    attn_drop: float = 0.0,
) -> Tensor:
    """The output (N_dst, H, D) of :func:`~lipzoo.attention.graph_attention` for additive scores.

    Dropout draws its seed from PyTorch's generator; the mask is a function of the seed, the edge
    and the head. Differentiable once: a second derivative raises (take ``backend="torch"``).
    """
    # Nodes that are source and destination have one projection: its gradient is summed in place.
    v_src, v_dst = scores.v_src, scores.v_dst
    is_shared = v_src.data_ptr() == v_dst.data_ptr() and v_src.stride() == v_dst.stride()
    scale = None if score_norm is None else score_norm.scale(scores).expand(1, v_src.shape[1])
    seed = int(torch.randint(2**32, ())) if attn_drop else 0
    return _AdditiveAttention.apply(
        v_src,
        None if is_shared else v_dst,
        scores.attn_l,
        scores.attn_r,
        scale,
        structure,
        scores.negative_slope,
        attn_drop,
        seed,
    )


class _AdditiveAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v_src, v_dst, attn_l, attn_r, scale, structure, slope, attn_drop, seed):
        _, heads, width = v_src.shape
        kernels = _kernels(heads, width, scale is not None, attn_drop > 0, v_src.dtype)
        index = kernel_index(structure)
        v = _rows(v_src)
        v_own = v[: structure.num_dst] if v_dst is None else _rows(v_dst)
        number = v.dtype.type
        scales = np.ones(heads, v.dtype) if scale is None else _rows(scale)[0]
        src = np.empty((len(v), 2 * heads), v.dtype)
        dst = np.empty((structure.num_dst, 5 * heads), v.dtype)
        out = np.empty((structure.num_dst, heads * width), v.dtype)
        # Scores are at most alpha where a node sees its own projection: no overflow, no shift.
        is_bounded = scale is not None and v_dst is None and index.has_all_loops
        arguments = (number(slope), np.uint32(seed), number(1 - attn_drop))
        with _ONE_AT_A_TIME:
            _set_threads()
            kernels.source_rows(v, _rows(attn_l)[0], src)
            kernels.dot_rows(v_own, _rows(attn_r), dst, 0)
            kernels.forward(
                index.in_chunks,
                index.in_ptr,
                index.in_src,
                index.in_edge,
                v,
                src,
                dst,
                scales,
                arguments[0],
                not is_bounded,
                *arguments[1:],
                out,
            )
        ctx.save_for_backward(v_src, v_dst, attn_l, attn_r, scale)
        ctx.kernels, ctx.structure, ctx.arguments = kernels, structure, arguments
        ctx.src, ctx.dst, ctx.out = src, dst, out
        return torch.from_numpy(out).view(-1, heads, width)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        v_src, v_dst, attn_l, attn_r, scale = ctx.saved_tensors
        kernels, src, dst, heads = ctx.kernels, ctx.src, ctx.dst, v_src.shape[1]
        slope, seed, kept = ctx.arguments
        index = kernel_index(ctx.structure)
        v, g = _rows(v_src), _rows(grad)
        scales = np.ones(heads, v.dtype) if scale is None else _rows(scale)[0]
        num_edges, num_dst = ctx.structure.num_edges, ctx.structure.num_dst
        d_v = np.empty_like(v)
        d_own = d_v[:num_dst] if v_dst is None else np.zeros((num_dst, v.shape[1]), v.dtype)
        d_src = np.empty((len(v), 2 * heads), v.dtype)
        d_dst = np.empty((num_dst, 2 * heads), v.dtype)
        d_score = np.empty((num_edges, heads), v.dtype)
        d_scale = np.empty((NUM_CHUNKS, heads), v.dtype)
        winner = np.empty((num_dst, heads), np.int32)
        d_l, d_r = (np.empty((NUM_CHUNKS, v.shape[1]), v.dtype) for _ in "lr")
        with _ONE_AT_A_TIME:
            _set_threads()
            kernels.dot_rows(g, ctx.out, dst, 4 * heads)
            kernels.backward_out_edges(
                index.out_chunks,
                index.out_ptr,
                index.out_dst,
                index.out_edge,
                v,
                src,
                dst,
                scales,
                slope,
                seed,
                kept,
                g,
                d_v,
                d_src,
                d_score,
                d_scale,
            )
            kernels.backward_in_edges(
                index.in_chunks,
                index.in_ptr,
                index.in_src,
                index.position,
                src,
                dst,
                scales,
                slope,
                d_score,
                d_dst,
                winner,
            )
            has_norm = scale is not None
            if has_norm:
                kernels.give_to_winners(winner, d_dst, d_src)
            kernels.combine(v, d_src, heads if has_norm else 0, _rows(attn_l)[0], d_v, d_l)
            own = v[:num_dst] if v_dst is None else _rows(v_dst)
            kernels.combine(own, d_dst, 0, _rows(attn_r)[0], d_own, d_r)
        return (
            torch.from_numpy(d_v).view_as(v_src),
            None if v_dst is None else torch.from_numpy(d_own).view_as(v_dst),
            torch.from_numpy(d_l.sum(0)).view_as(attn_l),
            torch.from_numpy(d_r.sum(0)).view_as(attn_r),
            torch.from_numpy(d_scale.sum(0) / scales).view_as(scale) if has_norm else None,
            *[None] * 4,
        )


def _rows(x: Tensor) -> np.ndarray:
    """(N, H, D) as a contiguous array (N, H * D) that shares its memory where it can."""
    return x.detach().contiguous().view(x.shape[0], -1).numpy()


@cache
def _kernels(heads: int, width: int, has_norm: bool, has_drop: bool, dtype: torch.dtype):
    # Numba is imported at the first use: importing lipzoo must stay quick.
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
    from lipzoo.attention.fused.additive import additive_kernels

    return additive_kernels(heads, width, has_norm, has_drop, dtype == torch.float64)


def _set_threads() -> None:
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
