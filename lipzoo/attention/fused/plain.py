"""What the kernels compute, in PyTorch's differentiable operations.

A kernel's backward pass cannot be differentiated. Where it is asked for (``create_graph=True``) or
transformed, gradients come from here instead, to be differentiated as often as one likes, with
the dropout mask of the kernel. That stores tensors of E x H x D numbers, as ``backend="torch"``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lipzoo._torch import is_in_func
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.ops import TorchOps
from lipzoo.attention.score_norms import LipschitzNorm, divide
from lipzoo.attention.structure import Structure

__all__ = [
    "attend",
    "by_square",
    "compute_dtype",
    "divide_by_lengths",
    "gradients",
    "is_differentiated",
    "lengths",
    "options_of",
    "scaled_vectors",
    "squares",
    "widely",
]


def compute_dtype(x: Tensor) -> torch.dtype:
    """What is computed in: float64 for float64, float32 for everything else."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def is_differentiated() -> bool:
    """Whether a backward pass, in which this is asked, is itself differentiated or transformed."""
    return torch.is_grad_enabled() or is_in_func()


def gradients(
    compute: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    is_needed: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """The gradients of ``compute(*inputs)`` that are needed, for derivatives of any order.

    Parameters
    ----------
    compute : callable
        What the forward pass computes.
    inputs : sequence of Tensor or None
        Its arguments, as the backward pass found them.
    is_needed : sequence of bool
        Whether the gradient of each is.
    grad : Tensor
        That of the output.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: one argument may have been computed from another.
        own = [None if x is None else x.view_as(x) for x in inputs]
        wanted = [x for x, is_wanted in zip(own, is_needed) if is_wanted]
        found = iter(
            torch.autograd.grad(
                compute(*own), wanted, grad, create_graph=again, materialize_grads=True
            )
        )
    return [next(found) if is_wanted else None for _, is_wanted in zip(own, is_needed)]


def widely(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``compute`` on tensors that are widened to what is computed in; its output is as wide as the
    first of them."""

    def widened(*tensors: Tensor | None) -> Tensor:
        like = tensors[0]
        wide = (None if x is None else x.to(compute_dtype(x)) for x in tensors)
        return compute(*wide).to(like.dtype)

    return widened


def attend(structure: Structure, e: Tensor, value: Tensor, dropout: DropoutMask) -> Tensor:
    """``sum_j m_ij p_ij v_j``, (N_dst, H, D), for ``p = softmax(e)`` and the mask ``m``."""
    ops = TorchOps(structure)
    weights = ops.edge_softmax(e)
    mask = dropout.mask(*e.shape, e.device)
    return ops.u_mul_e_sum(value, weights if mask is None else weights * mask)


def squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(c, q)`` with ``||x||² = c² q`` over the last dimension, whatever the size of ``x``.

    ``c``, the largest entry, is a constant; ``q`` is smooth, also where ``x`` is 0.
    """
    scale = x.detach().abs().amax(-1, keepdim=True)
    scale = scale.masked_fill(scale < torch.finfo(x.dtype).tiny, 1)
    return scale.squeeze(-1), (x / scale).square().sum(-1)


def lengths(scale: Tensor, square: Tensor) -> Tensor:
    """``||x|| = c sqrt(q)``; its derivatives of any order are 0 where it is."""
    is_zero = square == 0
    return scale * square.masked_fill(is_zero, 1).sqrt().masked_fill(is_zero, 0)


def options_of(norm: LipschitzNorm | None) -> tuple[float, bool]:
    """``alpha`` and ``per_head`` as arguments of an operator; ``alpha`` 0 where there is none."""
    return (0.0, True) if norm is None else (norm.alpha, norm.per_head)


def scaled_vectors(alpha: float, per_head: bool, *vectors: Tensor) -> list[Tensor]:
    """``alpha a / ||a||`` of attention vectors (1, H, D), whatever their size, where ``a`` are all
    vectors of a head, or of all heads.

    They go into a score before the LeakyReLU: the scale is positive.
    """
    together = torch.cat(vectors, -1)
    if not per_head:
        together = together.flatten(1).unsqueeze(1)
    unit, square = (x.unsqueeze(-1) for x in squares(together))
    root = lengths(torch.ones_like(square), square)
    return [divide(alpha * (vector / unit), root) for vector in vectors]


def by_square(scale: Tensor, square: Tensor, d_length: Tensor) -> Tensor:
    """The gradient of ``q`` from that of ``c sqrt(q)``."""
    is_zero = square == 0
    return (scale * d_length / (2 * square.masked_fill(is_zero, 1).sqrt())).masked_fill(is_zero, 0)


def divide_by_lengths(
    e: Tensor, scale: Tensor, square: Tensor, longest: Tensor, structure: Structure
) -> Tensor:
    """``e_ij / sqrt(M_i² + c_j² q_j)``, 0 where ``M`` is: (E, H) -> (E, H).

    Ratios to ``M`` neither over- nor underflow; its value is a constant beside its derivative.
    """
    is_tiny = longest < torch.finfo(longest.dtype).tiny
    longest = longest.masked_fill(is_tiny, 1)
    unit = longest.detach()[structure.dst]
    ratio = (scale[structure.src] / unit).square() * square[structure.src]
    root = ((longest / longest.detach()).square()[structure.dst] + ratio).sqrt()
    return (e / unit / root).masked_fill(is_tiny[structure.dst], 0)
