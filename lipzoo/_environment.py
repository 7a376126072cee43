"""What must be in place before PyTorch and DGL are loaded, whoever imports them.

**PyTorch's idle threads sleep soon.** After each parallel operation GNU OpenMP's threads spin for
some milliseconds, in case another one follows. Between two of PyTorch's operations the fused
kernels run on threads of their own, and share the cores with those that spin: one layer on a graph
of 505,000 edges then takes 1.4 times as long. A hundredth of that is enough to bridge the gap
between PyTorch's own operations. The number is read when PyTorch is loaded, so it is set where
lipzoo is imported first.

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


if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
os.environ.setdefault("DGLBACKEND", "pytorch")
if sys.version_info >= (3, 12):  # where DGL is 2.1: see lipzoo/install_dgl.py
    stub_graphbolt()
