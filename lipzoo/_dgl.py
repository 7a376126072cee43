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

_ADVICE = "`python -m lipzoo.install_dgl` installs the one that goes with this Python"


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
