"""What the Triton kernels share: tiles, the score's factor, dropout, launching, adding up.

A program walks one segment of edges in blocks of ``BLOCK_E``, for ``BLOCK_H`` heads of
``BLOCK_D`` features (powers of two; what is beyond H and D is masked). Sums over edges are kept
per position in the block and added up at the end, so nothing is exchanged between threads inside
the loop, and their order, hence their rounding, does not depend on the machine's load.

A score is computed in each pass, and has to come out the same to the last bit: the weight
``exp(score - largest)`` of a score of 1e6 is worth nothing if the score moves by a rounding error.
So multiplications and additions are not fused, and ``g·(v_j - out_i)``, the gradient of a score
over its weight, is the product of a difference: exactly 0 where one weight is 1.

Constants in capitals are compiled in: ``FT`` (what is computed in), ``TINY`` and ``LARGEST`` (its
smallest normal and its largest number), ``SLOPE`` (of the LeakyReLU), ``THRESHOLD`` (of dropout).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from lipzoo.attention.fused.cuda.index import Segments

__all__ = [
    "add_up",
    "block",
    "columns",
    "contiguous",
    "divided",
    "heads_of",
    "kept",
    "launch",
    "leaky",
    "new_like",
    "normed",
    "rows_of",
    "run",
    "segment",
    "signed",
]

#: Numbers in one tile (BLOCK_E, BLOCK_H, BLOCK_D) for each warp: 16 registers a thread.
_TILE = 512
_MAX_WARPS = 8


# --- Tiles -------------------------------------------------------------------------------------


@triton.jit
def segment(node, begin, end):
    """This program's segment: its number, its node, its first edge and the one after its last."""
    w = tl.program_id(0).to(tl.int64)
    return w, tl.load(node + w).to(tl.int64), tl.load(begin + w), tl.load(end + w)


@triton.jit
def columns(H: tl.constexpr, D: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr):
    """This program's heads (BLOCK_H,), their columns in a row (BLOCK_H, BLOCK_D), both with
    masks."""
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    has_head = h < H
    return h, has_head, h[:, None] * D + d[None, :], has_head[:, None] & (d < D)[None, :]


@triton.jit
def block(e, last, other, BLOCK_E: tl.constexpr):
    """The block of edges from ``e``: their positions, whether they exist, their other ends."""
    at = e + tl.arange(0, BLOCK_E)
    is_edge = at < last
    return at, is_edge, tl.load(other + at, mask=is_edge, other=0).to(tl.int64)


@triton.jit
def heads_of(x, row, h, mask, H: tl.constexpr, FT: tl.constexpr):
    """``x[row, h]`` of x (N, H), 0 where masked."""
    return tl.load(x + row * H + h, mask=mask, other=0.0).to(FT)


@triton.jit
def rows_of(x, row, column, mask, H: tl.constexpr, D: tl.constexpr, FT: tl.constexpr):
    """``x[row, column]`` of x (N, H * D), 0 where masked."""
    return tl.load(x + row * (H * D) + column, mask=mask, other=0.0).to(FT)


# --- Arithmetic --------------------------------------------------------------------------------


@triton.jit
def leaky(x, SLOPE: tl.constexpr):
    """The slope of the LeakyReLU at ``x``."""
    return tl.where(x > 0, 1.0, tl.full(x.shape, SLOPE, x.dtype))


@triton.jit
def divided(x, y):
    """``x / y``, rounded as IEEE 754 says: the GPU's own division of float32 is not."""
    # One return: after an early one the compiler still looks at what follows.
    if x.dtype == tl.float64:  # noqa: SIM108 - run on a GPU like this
        quotient = x / y
    else:
        quotient = tl.div_rn(x, y)
    return quotient


@triton.jit
def normed(s, length, longest, TINY: tl.constexpr, LARGEST: tl.constexpr):
    """``(s u / M, u, r, 1 / M)`` with ``r = n / M``, ``u = 1 / sqrt(1 + r²)`` for lengths
    ``n <= M``: no square that over- or underflows. ``1 / M`` is 0 where ``M`` is; a score beyond
    the largest number is the largest number."""
    is_tiny = longest < TINY
    inverse = tl.where(is_tiny, 0.0, 1.0 / tl.where(is_tiny, 1.0, longest))
    r = length * inverse
    u = tl.rsqrt(1.0 + r * r)
    s = s * (u * inverse)
    s = tl.where(s > LARGEST, LARGEST, tl.where(s < -LARGEST, -LARGEST, s))
    return s, u, r, inverse


@triton.jit
def _low(x):
    """The low 32 bits of 64: computed in 64, for a debugger takes an overflow for a fault."""
    return x.to(tl.uint32)


@triton.jit
def _mix(x):
    x = _low((x ^ (x >> 16)).to(tl.uint64) * 0x85EBCA6B)
    x = _low((x ^ (x >> 13)).to(tl.uint64) * 0xC2B2AE35)
    return x ^ (x >> 16)


@triton.jit
def kept(like, edge, at, is_edge, h, seed, THRESHOLD: tl.constexpr):
    """The mask of the dropout, 1 or 0, of attention weights ``like`` (BLOCK_E, BLOCK_H).

    It is that of ``keep`` in :mod:`lipzoo.attention.fused._edges`: a function of the seed, the
    edge and the head, so that the backward pass draws it again, on either device.
    """
    mask = tl.full(like.shape, 1.0, like.dtype)
    if THRESHOLD < 0xFFFFFFFF:
        seed = seed.to(tl.uint32)
        number = tl.load(edge + at, mask=is_edge, other=0).to(tl.uint32)
        bits = _low(_mix(number ^ seed).to(tl.uint64) + seed)[:, None]
        head = _low(h.to(tl.uint64) * 0x9E3779B9)[None, :]
        is_kept = _mix(_low(bits.to(tl.uint64) + head)) < THRESHOLD
        mask = tl.where(is_kept, mask, 0.0)
    return mask


# --- Launching ---------------------------------------------------------------------------------


def launch(
    kernel: Callable, segments: Segments, heads: int, width: int, dtype: torch.dtype, *args, **more
) -> None:
    """Run ``kernel`` for each segment and block of heads.

    Parameters
    ----------
    kernel : Triton kernel
        Takes ``args``, the five tensors of the segments, and constants by name.
    heads, width : int
        H and D; a width of 0 is for kernels that see no features.
    dtype : torch.dtype
        What is computed in.
    args : Tensor or int
        The kernel's own arguments.
    more
        Its own constants.
    """
    size_d = triton.next_power_of_2(max(width, 1))
    size_h = min(triton.next_power_of_2(heads), max(1, 128 // size_d))
    size_e = min(16, max(1, _TILE // (size_h * size_d)))
    tile = size_e * size_h * size_d
    constants = {"H": heads, "BLOCK_E": size_e, "BLOCK_H": size_h}
    if width:
        constants |= {"D": width, "BLOCK_D": size_d}
    s = segments
    run(
        kernel,
        (s.node.numel(), triton.cdiv(heads, size_h)),
        *args,
        *(s.node, s.begin, s.end, s.other, s.edge),
        **constants,
        **more,
        FT=tl.float64 if dtype == torch.float64 else tl.float32,
        num_warps=min(_MAX_WARPS, max(1, tile // _TILE)),
    )


def run(kernel: Callable, grid: tuple[int, ...], first: Tensor, *args, **constants) -> None:
    """Run a kernel on the device of its first argument; Triton takes the current one."""
    with torch.cuda.device_of(first):
        kernel[grid](first, *args, **constants, enable_fp_fusion=False)


def signed(seed: int) -> int:
    """The bits of an unsigned 32-bit integer as a signed one, which Triton passes as they are."""
    return seed - 2**32 if seed >= 2**31 else seed


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors as kernels take them: contiguous."""
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


# --- Adding up segments ------------------------------------------------------------------------


def new_like(segments: Segments, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for a row like those of ``x`` per segment; in ``dtype`` where rows are added up."""
    is_final = not segments.hubs.numel()
    return x.new_empty(segments.node.numel(), *x.shape[1:], dtype=x.dtype if is_final else dtype)


def add_up(segments: Segments, x: Tensor) -> Tensor:
    """What a kernel wrote per segment (W, *), added up per node (N, *)."""
    if segments.hubs.numel():
        size = x[0].numel()
        grid = (segments.hubs.numel(), triton.cdiv(size, 256))
        run(_add_up, grid, x, segments.hubs, segments.parts, SIZE=size, BLOCK=256, num_warps=1)
    return x[: segments.num_nodes]


@triton.jit
def _add_up(x, hubs, parts, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    k = tl.program_id(0)
    row = tl.load(hubs + k).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < SIZE
    first, last = tl.load(parts + k), tl.load(parts + k + 1)
    part = x + first.to(tl.int64) * SIZE + column
    total = tl.load(x + row * SIZE + column, mask=mask)
    for _ in range(first, last):
        total += tl.load(part, mask=mask)
        part += SIZE
    tl.store(x + row * SIZE + column, total, mask=mask)
