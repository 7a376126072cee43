"""Kernels from Numba's cache on the disk, in half the time.

Before it looks there, Numba loads all that it may need to compile a function: its own half of
NumPy, and SciPy's linear algebra. Kernels that are in the cache are machine code already. Where one
is not, Numba loads the rest when it begins to compile.
"""

from __future__ import annotations

from collections.abc import Iterable

from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

__all__ = ["load_quickly"]


class _QuickCache(FunctionCache):
    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # what kernels allocate their scratch with
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


#: What is used of Numba's own; a version without them reads kernels as it does.
_IS_KNOWN = all(
    hasattr(FunctionCache, name) for name in ("_load_overload", "_guard_against_spurious_io_errors")
)


def load_quickly(functions: Iterable) -> None:
    """Let those of the functions that Numba compiles, and keeps on the disk, be read so."""
    for function in functions if _IS_KNOWN else ():
        if type(getattr(function, "_cache", None)) is FunctionCache:
            function._cache = _QuickCache(function.py_func)
