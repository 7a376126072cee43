"""What must be in place before DGL is loaded, whoever imports it.

**DGL uses PyTorch** (``DGLBACKEND``): otherwise it prints a notice, writes a file into the home
directory, and crashes where that is not writable.

**DGL 2.x on a current PyTorch** (Python 3.12 and 3.13): its ``graphbolt`` binary does not load,
which takes down the whole import. A stub module stands in for it; graphbolt (and only it) is then
not usable.

What the user has set is left alone.
"""

from __future__ import annotations

import os
import sys
import types

__all__ = ["stub_graphbolt"]


def stub_graphbolt() -> bool:
    """Put the stub where DGL looks for graphbolt; whether that was needed."""
    if {"dgl", "dgl.graphbolt"} & sys.modules.keys():
        return False
    stub = types.ModuleType("dgl.graphbolt")
    # dgl.distributed looks this class up when it is imported.
    stub.FusedCSCSamplingGraph = type("FusedCSCSamplingGraph", (), {})
    sys.modules["dgl.graphbolt"] = stub
    return True


os.environ.setdefault("DGLBACKEND", "pytorch")
if sys.version_info >= (3, 12):  # where DGL is 2.1: see lipzoo/install_dgl.py
    stub_graphbolt()
