"""The only place that knows DGL's quirks; everything else imports ``dgl`` from here.

What is done before ``import dgl``, and why:

* ``DGLBACKEND`` defaults to ``pytorch``: otherwise DGL prints a notice, writes a file into the
  home directory, and crashes where that is not writable.
* DGL 2.x on a current PyTorch: its ``graphbolt`` binary does not load, which takes down the
  whole import. A stub module stands in for it; graphbolt (and only it) is then not usable.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import types

from lipzoo.errors import LipzooError

__all__ = ["DGL_NOTES", "DGL_VERSION", "DGLError", "dgl"]

#: What was done to make DGL importable, in words; empty where nothing was needed.
DGL_NOTES: list[str] = []

_ADVICE = (
    "install dgl==1.1.3 on Python 3.9-3.11, or dgl==2.1.0 with pandas on Python 3.12 "
    "(`pip install -c constraints.txt lipzoo` picks the right one)"
)


def _import_dgl() -> types.ModuleType:
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        version = importlib.metadata.version("dgl")
    except importlib.metadata.PackageNotFoundError:
        raise LipzooError(f"DGL is not installed: {_ADVICE}") from None
    if int(version.split(".")[0]) >= 2 and "dgl.graphbolt" not in sys.modules:
        stub = types.ModuleType("dgl.graphbolt")
        # dgl.distributed looks this class up when it is imported.
        stub.FusedCSCSamplingGraph = type("FusedCSCSamplingGraph", (), {})
        sys.modules["dgl.graphbolt"] = stub
        DGL_NOTES.append(f"dgl {version}: dgl.graphbolt is replaced by a stub")
    try:
        import dgl
    except Exception as fault:  # DGL fails with OSError, ImportError, FileNotFoundError, …
        sys.modules.pop("dgl.graphbolt", None)
        raise LipzooError(f"DGL {version} cannot be imported ({fault}): {_ADVICE}") from fault
    return dgl


dgl = _import_dgl()
DGL_VERSION: str = dgl.__version__
DGLError = dgl.DGLError
