"""Fused attention as operators of PyTorch, such as ``lipzoo::additive_attention``.

Autograd, compilers and profilers see one named function of tensors, and a second that computes its
gradients. The edges are among its arguments: the index that the kernels read, as tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lipzoo._torch import below_autograd
from lipzoo.attention.fused import plain
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.fused.index import kernel_index
from lipzoo.attention.structure import Structure

__all__ = ["Attention", "EdgeIndex", "define"]

_LIBRARY = torch.library.Library("lipzoo", "FRAGMENT")


class EdgeIndex(NamedTuple):
    """What :class:`~lipzoo.attention.fused.index.KernelIndex` gives, as tensors; those by source
    are empty where no gradient is asked for, ids where nothing is dropped."""

    in_chunks: Tensor
    in_starts: Tensor
    in_ends: Tensor
    in_ids: Tensor
    out_chunks: Tensor
    out_starts: Tensor
    out_ends: Tensor
    out_ids: Tensor

    @property
    def num_dst(self) -> int:
        return self.in_starts.shape[0] - 1

    @property
    def num_edges(self) -> int:
        return self.in_ends.shape[0]

    def in_edges(self) -> tuple:
        """As the kernels take them."""
        return tuple(x.numpy() for x in self[:4])

    def out_edges(self) -> tuple:
        return tuple(x.numpy() for x in self[4:])

    def structure(self) -> Structure:
        """The edges again, in the order of their ids where these are there."""
        src, ids = self.in_ends.long(), self.in_ids.long()
        dst = torch.arange(self.num_dst).repeat_interleave(self.in_starts.diff())
        if ids.numel():
            src, dst = (torch.empty_like(ends).index_copy(0, ids, ends) for ends in (src, dst))
        return Structure(src, dst, self.out_starts.shape[0] - 1, self.num_dst)


def _edge_index(structure: Structure, by_source: bool, with_ids: bool) -> EdgeIndex:
    index = kernel_index(structure)
    found = index.in_edges(with_ids)
    found += index.out_edges(with_ids) if by_source else (found[0][:0],) + (found[2][:0],) * 3
    return EdgeIndex(*map(torch.from_numpy, found))


@dataclass(frozen=True)
class Attention:
    """A kind of fused attention.

    Parameters
    ----------
    name : str
        Of the operator.
    tensors : dict
        Names of its tensors, and whether each may be None. The first is (N, H, D), as the output.
    options : dict
        Names of its other arguments, and their types.
    kept : int
        Numbers that are kept for the backward pass, a destination node and head.
    forward : callable
        ``forward(index, dropout, *tensors, *options)`` gives the output (N_dst, H, D) and what is
        kept (N_dst, kept * H).
    backward : callable
        ``backward(index, dropout, *tensors, *options, out, kept, grad)`` gives the gradients of the
        tensors.
    plainly : callable
        ``plainly(structure, dropout, *options, *tensors)`` computes the output in operations of
        PyTorch, to be differentiated again.
    """

    name: str
    tensors: dict[str, bool]
    options: dict[str, str]
    kept: int
    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., Sequence[Tensor | None]]
    plainly: Callable[..., Tensor]

    def __call__(
        self,
        structure: Structure,
        dropout: DropoutMask,
        tensors: Sequence[Tensor | None],
        options: Sequence[Any],
    ) -> Tensor:
        trains = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
        index = structure.derived(_edge_index, trains, dropout.drops)
        seed = torch.as_tensor(dropout.seed) if dropout.drops else None
        operator = getattr(torch.ops.lipzoo, self.name)
        return operator(*tensors, *index, seed, dropout.kept, *options)[0]


def define(kind: Attention) -> Attention:
    """Make the operators of a kind."""
    tensors = ", ".join(f"Tensor{'?' * may_lack} {x}" for x, may_lack in kind.tensors.items())
    edges = ", ".join(f"Tensor {x}" for x in EdgeIndex._fields)
    options = "".join(f", {of} {name}" for name, of in kind.options.items())
    arguments = f"{tensors}, {edges}, Tensor? seed, float kept_share{options}"
    number, backward = len(kind.tensors), f"{kind.name}_backward"
    gradients = ", ".join(["Tensor"] * number)
    _LIBRARY.define(f"{kind.name}({arguments}) -> (Tensor, Tensor)")
    _LIBRARY.define(
        f"{backward}({arguments}, Tensor out, Tensor kept, Tensor grad) -> ({gradients})"
    )

    def split(arguments: Sequence) -> tuple[Sequence, EdgeIndex, DropoutMask, Sequence]:
        index, (seed, share, *others) = arguments[number : number + 8], arguments[number + 8 :]
        dropout = DropoutMask() if seed is None else DropoutMask(seed, share)
        return arguments[:number], EdgeIndex(*index), dropout, others

    def compute(*arguments):
        given, index, dropout, others = split(arguments)
        return kind.forward(index, dropout, *given, *others)

    def compute_gradients(*arguments):
        given, index, dropout, others = split(arguments)
        found = kind.backward(index, dropout, *given, *others)
        return tuple(grad if grad is not None else index.in_ends.new_empty(0) for grad in found)

    def sizes(*arguments):
        given, index, _, _ = split(arguments)
        _, heads, width = given[0].shape
        out = given[0].new_empty(index.num_dst, heads, width)
        dtype = plain.compute_dtype(out)
        return out, given[0].new_empty(index.num_dst, kind.kept * heads, dtype=dtype)

    def sizes_of_gradients(*arguments):
        given, index, _, _ = split(arguments)
        none = index.in_ends.new_empty(0)
        rows = torch.contiguous_format  # however the inputs lie
        return tuple(none if x is None else torch.empty_like(x, memory_format=rows) for x in given)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            with below_autograd():
                out, kept = getattr(torch.ops.lipzoo, kind.name)(*arguments)
            ctx.others = arguments[number:]
            ctx.save_for_backward(*arguments[:number], out, kept)
            ctx.mark_non_differentiable(kept)
            return out, kept

        @staticmethod
        def backward(ctx, grad, _):
            *given, out, kept = ctx.saved_tensors
            needed = ctx.needs_input_grad[:number]
            if plain.is_differentiated():
                _, index, dropout, others = split([*given, *ctx.others])
                again = partial(kind.plainly, index.structure(), dropout, *others)
                found = plain.gradients(plain.widely(again), given, needed, grad)
            else:
                operator = getattr(torch.ops.lipzoo, backward)
                found = operator(*given, *ctx.others, out, kept, grad)
                found = [x if is_needed else None for x, is_needed in zip(found, needed)]
            return *found, *[None] * len(ctx.others)

    fake = getattr(torch.library, "register_fake", None) or torch.library.impl_abstract
    for name, function, of_fakes in (
        (kind.name, compute, sizes),
        (backward, compute_gradients, sizes_of_gradients),
    ):
        _LIBRARY.impl(name, function, "CPU")
        fake(f"lipzoo::{name}", of_fakes, lib=_LIBRARY)
    _LIBRARY.impl(kind.name, Differentiable.apply, "Autograd")
    return kind
