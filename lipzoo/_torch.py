"""PyTorch's state, and the only place that reaches into what it does not document.

See `_dgl` for DGL's quirks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import (
    coerce_cinterpreter,
    temporarily_pop_interpreter_stack,
)
from torch.overrides import TorchFunctionMode

__all__ = [
    "added",
    "below_autograd",
    "evaluating",
    "is_exporting",
    "is_in_func",
    "is_stack",
    "is_transformed",
    "lasting",
    "seeded",
    "threads",
    "unseen",
    "without_numbers",
]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module is in the mode it was in, whatever was raised."""
    were_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in were_training:
            module.training = True


def added(own: Tensor, other: Tensor) -> Tensor:
    """``own + other``; in the place of ``own``, which nobody else holds, where nothing looks on."""
    is_watched = torch.is_grad_enabled() or is_transformed()
    if is_watched or torch.result_type(own, other) != own.dtype:
        return own + other
    return own.add_(other)


def below_autograd():
    """Within, operators do not record what autograd needs: for the function that does so itself."""
    return torch._C._AutoDispatchBelowAutograd()


def is_in_func() -> bool:
    """Whether ``torch.func`` transforms what is computed."""
    return torch._C._functorch.get_dynamic_layer_stack_depth() > 0


def is_transformed() -> bool:
    """Whether ``torch.func`` transforms or a compiler look at what is computed."""
    return is_in_func() or torch.compiler.is_compiling()


def is_exporting() -> bool:
    """Whether ``torch.export`` traces what is computed: sizes are symbols, values are unknown."""
    # Before it has that function, PyTorch exports no network of ours.
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()


def is_stack(tensors: Iterable[Tensor], draws: bool = False) -> bool:
    """Whether ``torch.func.vmap``, once and alone, runs over some of these tensors.

    ``draws``: and lets random numbers differ along what it runs over.
    """
    if torch.compiler.is_compiling() or not is_in_func():
        return False
    stack = torch._C._functorch.get_interpreter_stack()
    if len(stack) != 1 or stack[0].key() != torch._C._functorch.TransformType.Vmap:
        return False
    if draws and coerce_cinterpreter(stack[0]).randomness() != "different":
        return False
    return any(torch._C._functorch.is_batchedtensor(tensor) for tensor in tensors)


@contextmanager
def lasting() -> Iterator[None]:
    """Make plain tensors, whatever the caller is in the middle of.

    What is kept outlives the call that makes it. A tensor that is made under ``inference_mode``
    cannot be used in training afterwards, nor one made inside a ``torch.func`` transform
    outside of it.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        while is_in_func():
            stack.enter_context(temporarily_pop_interpreter_stack())
        yield


class _NoDraws(TorchFunctionMode):
    def __torch_function__(self, function, types, arguments=(), named=None):
        named = named or {}
        if getattr(function, "__name__", "").endswith("normal_"):  # also of torch.nn.init
            return arguments[0] if arguments else named["tensor"]
        return function(*arguments, **named)


@contextmanager
def without_numbers() -> Iterator[None]:
    """Make tensors that have shapes alone. Nothing is drawn for them from a normal distribution:
    PyTorch would load its compiler for that, which takes as long as PyTorch itself."""
    with torch.device("meta"), _NoDraws():
        yield


def unseen(function: Callable) -> Callable:
    """A function that a compiler calls and does not look into: ``torch.compiler.disable``, which
    would load the compiler now, as soon as there is one."""

    hidden = None

    @wraps(function)
    def call(*arguments, **named):
        nonlocal hidden
        if hidden is None and "torch._dynamo" in sys.modules:
            hidden = torch.compiler.disable(function)
        return (hidden or function)(*arguments, **named)

    call._torchdynamo_disable = True
    return call


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw on the CPU from a seed; afterwards all generators go on as if nothing had been.

    ``torch.manual_seed`` would seed those of the GPUs, too, and leave them so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let PyTorch work with so many threads; None leaves them as they are."""
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)
