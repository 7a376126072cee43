"""The only place that knows DGL's quirks; everything else imports ``dgl`` from here.

What must be done before ``import dgl`` is in `lipzoo._environment`.
"""

from __future__ import annotations

import importlib.metadata
import sys
import types

from lipzoo._environment import stub_graphbolt
from lipzoo.errors import LipzooError

__all__ = ["DGL_VERSION", "DGLError", "dgl"]

_ADVICE = (
    "install dgl==1.1.3 on Python 3.9-3.11, or dgl==2.1.0 with pandas on Python 3.12 "
    "(`pip install -c constraints.txt lipzoo` picks the right one)"
)


def _import_dgl() -> types.ModuleType:
    try:
        version = importlib.metadata.version("dgl")
    except importlib.metadata.PackageNotFoundError:
        raise LipzooError(f"DGL is not installed: {_ADVICE}") from None
    if int(version.split(".")[0]) >= 2:
        stub_graphbolt()
    try:
        import dgl
    except Exception as fault:  # DGL fails with OSError, ImportError, FileNotFoundError, …
        sys.modules.pop("dgl.graphbolt", None)
        raise LipzooError(f"DGL {version} cannot be imported ({fault}): {_ADVICE}") from fault
    return dgl


dgl = _import_dgl()
DGL_VERSION: str = dgl.__version__
DGLError = dgl.DGLError
