"""What a computation allocates, in order, as a function of the sizes of its inputs.

The same computation runs on small inputs of a few sizes. Its allocations come in the same order
each time, and the bytes of each are linear in the sizes: so a few runs give them for any size.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Trace", "record", "trace"]

#: NumPy's functions whose results are arrays of their own: the fused kernels work on these, which
#: PyTorch's allocator does not see.
_MAKERS = ("empty", "empty_like", "zeros", "zeros_like", "full", "where")


@dataclass(frozen=True)
class Trace:
    """Allocations and releases in order.

    Parameters
    ----------
    events : list of int
        ``number`` of an allocation, from 0; ``~number`` of its release.
    sizes : array (A, K)
        Of each allocation, the bytes for 1, and for each of the ``K - 1`` sizes of the inputs.
    """

    events: list[int]
    sizes: np.ndarray

    def bytes(self, *sizes: float) -> np.ndarray:
        """Of each allocation, (A,), for inputs of these sizes."""
        return np.maximum(self.sizes @ np.array([1.0, *sizes]), 0)

    def peak(self, *sizes: float, cost: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> float:
        """The most that is in use at once, in bytes, for inputs of these sizes.

        ``cost`` says what allocations of some bytes take.
        """
        found = cost(self.bytes(*sizes))
        steps = [found[event] if event >= 0 else -found[~event] for event in self.events]
        return float(np.cumsum([0.0, *steps]).max())


def trace(run: Callable[..., Any], *inputs: tuple[Sequence[float], Any]) -> Trace:
    """The allocations of ``run(input)``, from as many inputs as a line in the sizes needs.

    Parameters
    ----------
    run : callable
        Takes one of the inputs, and does the same with each.
    *inputs : (sizes, input)
        ``K`` inputs; the ``K - 1`` sizes of each.

    Raises
    ------
    ValueError
        If it does not do the same.
    """
    records = [record(partial(run, each)) for _, each in inputs]
    events = records[0][0]
    if any(other != events for other, _ in records):
        raise ValueError("the computation does not allocate the same for inputs of other sizes")
    sizes = np.array([[1.0, *sizes] for sizes, _ in inputs])
    found = np.array([held for _, held in records], dtype=float)
    return Trace(events, np.linalg.solve(sizes, found).T)


def record(run: Callable[[], Any]) -> tuple[list[int], list[int]]:
    """Events of a call, as in :class:`Trace`, and the bytes of each allocation.

    What operations take for themselves while they run is not seen, nor what DGL does.
    """
    recorder = _Recorder()
    with recorder, _numpy_seen(recorder.allocated):
        run()
    # Copies: what outlives the call is released later.
    return list(recorder.events), list(recorder.sizes)


class _Recorder(TorchDispatchMode):
    """Looks at what each operation returns, at the backward pass's too."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[int] = []
        self.sizes: list[int] = []
        self._known: dict[int, weakref.ref] = {}
        #: Where NumPy's arrays lie: an operator of the kernels returns tensors of them.
        self._addresses: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or each operation would be wrapped for the compiler, at ten times the cost

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):
            if storage._cdata not in self._known:  # made before, or by NumPy
                self._know(storage, None)
        out = func(*args, **kwargs or {})
        for storage in _storages(out):
            if storage._cdata not in self._known:
                is_counted = storage.data_ptr() in self._addresses
                self._know(storage, None if is_counted else self._made(storage.nbytes()))
        return out

    def allocated(self, array: np.ndarray) -> None:
        """Of NumPy; views of an array keep it."""
        number, key, address = self._made(array.nbytes), ~id(array), array.ctypes.data
        if array.nbytes:
            self._addresses.add(address)

        def gone(_: weakref.ref) -> None:
            self._addresses.discard(address)
            self._gone(key, number)

        self._known[key] = weakref.ref(array, gone)

    def _made(self, size: int) -> int:
        self.sizes.append(size)
        self.events.append(len(self.sizes) - 1)
        return len(self.sizes) - 1

    def _know(self, storage: torch.UntypedStorage, number: int | None) -> None:
        key = storage._cdata
        self._known[key] = weakref.ref(storage, lambda _: self._gone(key, number))

    def _gone(self, key: int, number: int | None) -> None:
        self._known.pop(key, None)
        if number is not None:
            self.events.append(~number)


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    for value in tree_leaves(values):
        if not isinstance(value, Tensor):
            continue
        if value.layout is torch.sparse_csr:
            for part in (value.crow_indices(), value.col_indices(), value.values()):
                yield part.untyped_storage()
        else:
            yield value.untyped_storage()


@contextmanager
def _numpy_seen(allocated: Callable[[np.ndarray], None]) -> Iterator[None]:
    """Call ``allocated`` with the arrays that NumPy's functions make within."""

    def seen(make: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            array = make(*args, **kwargs)
            if isinstance(array, np.ndarray):
                allocated(array)
            return array

        return made

    before = {name: getattr(np, name) for name in _MAKERS}
    try:
        for name, make in before.items():
            setattr(np, name, seen(make))
        yield
    finally:
        for name, make in before.items():
            setattr(np, name, make)
