"""What is measured: a layer or a training step, of one implementation, on one graph."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from lab.benchmark.graphs import POWERLAW_EDGES, POWERLAW_NODES
from lipzoo.errors import ConfigError, did_you_mean

__all__ = ["GRAPHS", "IMPLEMENTATIONS", "LIMIT", "SUBJECT", "Case", "curve_graph", "default_cases"]

#: What the ratios are about.
SUBJECT = "fused + norm"
#: What a layer cannot be faster than: its matrix products and three gathers over the edges.
LIMIT = "three gathers"


@dataclass(frozen=True)
class Implementation:
    """``backend`` and ``score_norm`` of a lipzoo layer, or the ``library`` of a peer."""

    library: str
    norm: bool


IMPLEMENTATIONS: dict[str, Implementation] = {
    SUBJECT: Implementation("fused", True),
    "fused": Implementation("fused", False),
    "torch + norm": Implementation("torch", True),
    "dgl + norm": Implementation("dgl", True),
    "DGL GATConv": Implementation("DGL", False),
    "PyG GATConv": Implementation("PyG", False),
    "PyG + norm": Implementation("PyG", True),
    "PyG + norm on edges": Implementation("PyG", True),
    LIMIT: Implementation("limit", True),
}

#: Those whose cost is drawn against depth and against E.
_CURVES = (SUBJECT, "dgl + norm", "DGL GATConv", "PyG + norm", LIMIT)
#: The depth whose training step is measured for every implementation; the others are a curve.
_DEEP = 16

#: What ``tools/benchmark.py`` measures layers on; training steps run on the second of them.
GRAPHS = ("cora", "amazon_computers", "coauthor_physics", "powerlaw")


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Parameters
    ----------
    implementation : str
        A name in ``IMPLEMENTATIONS``.
    graph : str
        A data set's name, or ``powerlaw`` or ``powerlaw:NODES:EDGES``.
    heads, width : int
        ``H`` and ``D``.
    depth : int
        0: forward and backward of one attention layer. Otherwise a training step (forward,
        backward, Adam) of a model of that many layers.
    threads : int
        Threads of PyTorch, DGL and Numba.
    """

    implementation: str
    graph: str
    heads: int = 8
    width: int = 8
    depth: int = 0
    threads: int = 1

    @classmethod
    def of(cls, row: dict) -> Case:
        """The case of a row of the CSV file."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})

    @property
    def group(self) -> tuple:
        """Cases of one group are measured side by side and compared with each other."""
        return self.graph, self.heads, self.width, self.depth, self.threads

    @property
    def what(self) -> str:
        """``one layer`` or ``16-layer training step``."""
        return f"{self.depth}-layer training step" if self.depth else "one layer"

    @property
    def where(self) -> str:
        """What a group of cases has in common, in words."""
        return f"{self.graph}, D={self.width}, {self.what}"

    def __str__(self) -> str:
        return f"{self.where}, {self.implementation}"


def default_cases(
    graphs: Sequence[str] = GRAPHS,
    widths: Sequence[int] = (8, 64),
    depths: Sequence[int] = (2, 8, 16, 32),
    edges: Sequence[int] = (100_000, 400_000, 1_000_000),
    implementations: Iterable[str] | None = None,
    threads: int | None = None,
) -> list[Case]:
    """The cases of a run; PyG's only where it is installed.

    One layer is measured on each of ``graphs`` (see :func:`load_graph`) for each of ``widths``;
    training steps of models of ``depths`` on the second graph with the first width; the curve on
    generated graphs of ``edges`` edges.

    Raises
    ------
    ConfigError
        If an implementation is unknown, or needs PyG and that is not installed; if a number is
        not positive.
    """
    asked = list(implementations or ())
    for name in asked:
        if name not in IMPLEMENTATIONS:
            raise ConfigError(f"no implementation {name!r}{did_you_mean(name, IMPLEMENTATIONS)}")
        if IMPLEMENTATIONS[name].library == "PyG" and not has_pyg():
            raise ConfigError(f"{name!r} needs PyG: pip install 'lipzoo[pyg]'")
    for what, numbers in (("widths", widths), ("depths", depths), ("edges", edges)):
        if any(number < 1 for number in numbers):
            raise ConfigError(f"{what} must be at least 1, got {min(numbers)}")
    if not graphs or not widths:
        raise ConfigError("name at least one graph and one width")
    threads = usable_cores() if threads is None else threads
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    names = [
        name
        for name in asked or IMPLEMENTATIONS
        if has_pyg() or IMPLEMENTATIONS[name].library != "PyG"
    ]
    curves = [name for name in names if name in _CURVES] if not asked else names

    cases = [
        Case(name, graph, 8, width, 0, threads)
        for graph in graphs
        for width in widths
        for name in names
    ]
    for depth in sorted(depths):
        some = names if depth == _DEEP else curves
        cases += [Case(name, graphs[:2][-1], 8, widths[0], depth, threads) for name in some]
    for size in sorted(edges):
        cases += [Case(name, curve_graph(size), 8, widths[0], 0, threads) for name in curves]
    return list(dict.fromkeys(cases))


def curve_graph(num_edges: int) -> str:
    """The generated graph of that size that cost is drawn against: as dense as ``powerlaw``."""
    num_nodes = max(1, round(num_edges * POWERLAW_NODES / POWERLAW_EDGES))
    return f"powerlaw:{num_nodes}:{num_edges}"


def has_pyg() -> bool:
    """Whether PyTorch Geometric is installed."""
    return importlib.util.find_spec("torch_geometric") is not None


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
