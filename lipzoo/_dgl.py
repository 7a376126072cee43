"""The only place that knows DGL's quirks, and whether there is a DGL at all.

DGL is imported when something first needs it: a task's graph is a ``DGLGraph`` where DGL is
installed, and a `lipzoo._graph.Graph` where it is not. What must be done before ``import dgl`` is
in `lipzoo._environment`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import os
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

from lipzoo._environment import stub_graphbolt
from lipzoo.errors import DataError, LipzooError

__all__ = [
    "dgl_error",
    "dgl_version",
    "find_dgl",
    "is_dgl_graph",
    "need_dgl",
    "quiet",
]

_ADVICE = "`python -m lipzoo.install_dgl` installs the one that goes with this Python"


def find_dgl() -> types.ModuleType | None:
    """DGL; None where it is not installed, or does not import (which is said once)."""
    dgl, fault = _found()
    if fault:
        _warn(fault)
    return dgl


def need_dgl(what: str) -> types.ModuleType:
    """DGL, for ``what``, which words the error ("WHAT needs DGL, …").

    Raises
    ------
    LipzooError
        If it is not installed, or does not import.
    """
    dgl, fault = _found()
    if dgl is None:
        raise LipzooError(f"{what} needs DGL, which {fault or 'is not installed'}: {_ADVICE}")
    return dgl


def is_dgl_graph(graph: Any) -> bool:
    """Whether it is a DGLGraph or a block; where DGL was never imported there is none."""
    loaded = sys.modules.get("dgl")
    return loaded is not None and isinstance(graph, getattr(loaded, "DGLGraph", ()))


def dgl_error(words: str) -> Exception:
    """What DGL's layers raise, and their users catch; a `DataError` without DGL."""
    dgl, _ = _found()
    return DataError(words) if dgl is None else dgl.DGLError(words)


def dgl_version() -> str:
    """Of the DGL that is used; ``"none"`` without."""
    dgl, _ = _found()
    return "none" if dgl is None else str(dgl.__version__)


@functools.cache
def _found() -> tuple[types.ModuleType | None, str]:
    """DGL, and what is wrong with the one that is installed."""
    try:
        version = importlib.metadata.version("dgl")
    except importlib.metadata.PackageNotFoundError:
        return None, ""
    if int(version.split(".")[0]) >= 2:
        stub_graphbolt()
    try:
        import dgl
    except ModuleNotFoundError as fault:
        sys.modules.pop("dgl.graphbolt", None)
        return None, "" if fault.name == "dgl" else _words(version, fault)
    except Exception as fault:  # DGL fails with OSError, ImportError, FileNotFoundError, …
        sys.modules.pop("dgl.graphbolt", None)
        return None, _words(version, fault)
    return dgl, ""


def _words(version: str, fault: Exception) -> str:
    return f"is installed ({version}) and cannot be imported ({fault})"


@functools.cache
def _warn(fault: str) -> None:
    warnings.warn(f"DGL {fault}; going on without it: {_ADVICE}", RuntimeWarning, stacklevel=4)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What DGL prints, from Python and from C++ on stderr, which programs may read."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        with contextlib.suppress(OSError):  # there may be no stderr
            kept = os.dup(2)
            stack.callback(os.close, kept)
            silent = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, silent)
            os.dup2(silent, 2)
            stack.callback(os.dup2, kept, 2)
        yield


def __getattr__(name: str) -> Any:
    if name == "dgl":
        return need_dgl("this")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
