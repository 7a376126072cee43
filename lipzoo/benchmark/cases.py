"""What is measured: a layer or a training step, of one implementation, on one graph.

Run as a program (``python -m lipzoo.benchmark.cases CASE.json``) it measures one case in a
process of its own and prints JSON, so that cases share neither memory nor caches.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.errors import ConfigError, did_you_mean

__all__ = ["IMPLEMENTATIONS", "Case", "default_cases", "powerlaw_graph"]

#: Name -> (backend, score norm); the others are peers.
IMPLEMENTATIONS = {
    "fused + norm": ("fused", "lipschitz"),
    "fused": ("fused", None),
    "torch + norm": ("torch", "lipschitz"),
    "dgl + norm": ("dgl", "lipschitz"),
    "DGL GATConv": (None, None),
    "PyG GATConv": (None, None),
    "PyG + norm": (None, "lipschitz"),
}


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Parameters
    ----------
    implementation : str
        A name in ``IMPLEMENTATIONS``.
    graph : str
        A dataset's name, or ``powerlaw`` or ``powerlaw:NODES:EDGES``.
    heads, width : int
        ``H`` and ``D``.
    layers : int
        0: forward and backward of one attention layer. Otherwise a training step (forward,
        backward, Adam) of a model of that many layers.
    threads : int
        Threads of PyTorch, DGL and Numba.
    """

    implementation: str
    graph: str
    heads: int = 8
    width: int = 8
    layers: int = 0
    threads: int = 2

    @property
    def group(self) -> tuple:
        """Cases of one group are compared with each other."""
        return self.graph, self.heads, self.width, self.layers


def default_cases(
    graphs: list[str], widths: list[int], layers: list[int], threads: int, implementations=None
) -> list[Case]:
    """All combinations; PyG's only where it is installed.

    Raises
    ------
    ConfigError
        If an implementation is unknown.
    """
    names = list(implementations or IMPLEMENTATIONS)
    for name in names:
        if name not in IMPLEMENTATIONS:
            raise ConfigError(f"no implementation {name!r}{did_you_mean(name, IMPLEMENTATIONS)}")
    if not _has_pyg():
        names = [name for name in names if not name.startswith("PyG")]
    return [
        Case(name, graph, 8, width, depth, threads)
        for graph in graphs
        for width in widths
        for depth in layers
        for name in names
    ]


def _has_pyg() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch_geometric") is not None


def powerlaw_graph(num_nodes: int = 169_343, num_edges: int = 2_300_000, seed: int = 0):
    """A directed graph whose in-degrees follow a power law (exponent 2.2), with self-loops."""
    rng = np.random.default_rng(seed)
    weight = (np.arange(num_nodes) + 1.0) ** (-1 / 1.2)
    cumulative = np.cumsum(weight / weight.sum())
    dst = np.searchsorted(cumulative, rng.random(num_edges)).clip(max=num_nodes - 1)
    dst = rng.permutation(num_nodes)[dst]  # a hub's number says nothing of its place
    src = rng.integers(num_nodes, size=num_edges)
    graph = dgl.graph((torch.from_numpy(src), torch.from_numpy(dst)), num_nodes=num_nodes)
    return dgl.add_self_loop(dgl.remove_self_loop(graph))


def _load(name: str, raw_dir: str | None):
    if name.startswith("powerlaw"):
        return powerlaw_graph(*map(int, name.split(":")[1:]))
    graph = lipzoo.load_dataset(name, raw_dir=raw_dir).graph
    return dgl.add_self_loop(dgl.remove_self_loop(graph))


# --------------------------------------------------- one case in this process


def _layer_step(case: Case, graph) -> Callable[[], None]:
    torch.manual_seed(0)
    feat = torch.randn(graph.num_nodes(), case.heads * case.width, requires_grad=True)
    layer = _make_layer(case)
    grad = torch.randn(graph.num_nodes(), case.heads, case.width)
    where = _edge_index(graph) if case.implementation.startswith("PyG") else graph

    def step() -> None:
        feat.grad = None
        layer.zero_grad()
        out = layer(feat, where) if case.implementation.startswith("PyG") else layer(where, feat)
        out.view_as(grad).backward(grad)

    return step


def _model_step(case: Case, graph) -> Callable[[], None]:
    torch.manual_seed(0)
    hidden, classes = case.heads * case.width, 10
    feat = torch.randn(graph.num_nodes(), 64)
    labels = torch.randint(classes, (graph.num_nodes(),))
    ends = torch.nn.Linear(64, hidden), torch.nn.Linear(hidden, classes)
    layers = torch.nn.ModuleList(_make_layer(case) for _ in range(case.layers))
    everything = torch.nn.ModuleList([*ends, layers])
    optimizer = torch.optim.Adam(everything.parameters(), lr=1e-3)
    is_pyg = case.implementation.startswith("PyG")
    where = _edge_index(graph) if is_pyg else graph

    def step() -> None:
        optimizer.zero_grad()
        h = F.elu(ends[0](feat))
        for layer in layers:
            h = F.elu((layer(h, where) if is_pyg else layer(where, h)).flatten(1))
        F.cross_entropy(ends[1](h), labels).backward()
        optimizer.step()

    return step


def _make_layer(case: Case) -> torch.nn.Module:
    feats = case.heads * case.width
    backend, norm = IMPLEMENTATIONS[case.implementation]
    if backend is not None:
        return lipzoo.nn.GATConv(feats, case.width, case.heads, score_norm=norm, backend=backend)
    if case.implementation == "DGL GATConv":
        return dgl.nn.GATConv(feats, case.width, case.heads)
    from lipzoo.benchmark.pyg import make_pyg_layer

    return make_pyg_layer(feats, case.width, case.heads, with_norm=norm is not None)


def _edge_index(graph):
    return torch.stack(graph.edges(order="eid")).long()


def measure(case: Case, repeats: int, raw_dir: str | None) -> dict:
    """Seconds of each repeat, compile time of the first call, and peak memory above the start.

    Memory is the high-water mark of the process while the timed steps run, less what it held
    before the first step (graph, weights, libraries), in MiB; ``None`` away from Linux.
    """
    torch.set_num_threads(case.threads)
    graph = _load(case.graph, raw_dir)
    step = (_model_step if case.layers else _layer_step)(case, graph)
    before = _memory("VmRSS")
    begin = time.perf_counter()
    step()
    first = time.perf_counter() - begin
    _reset_peak()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    peak = _memory("VmHWM")
    return {
        **asdict(case),
        "num_nodes": graph.num_nodes(),
        "num_edges": graph.num_edges(),
        "first_call": first,
        "seconds": seconds,
        "memory_mib": None if peak is None else (peak - before) / 1024,
    }


def _memory(field: str) -> int | None:
    """VmRSS (now) or VmHWM (peak) in KiB."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[field].split()[0])


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then that of the whole process
        return


if __name__ == "__main__":
    request = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(measure(Case(**request["case"]), request["repeats"], request["raw_dir"])))
