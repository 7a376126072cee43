"""A good graph in the files of other libraries: what `corpus` damages."""

import io
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import networkx as nx
import numpy as np
import torch

__all__ = ["COLUMNS", "MATRIX", "PARQUET", "TENSORS", "gml", "graphml"]

N = 30
_NODE = range(N)
_NEXT = [(node + 1) % N for node in _NODE]
_FEAT = np.random.default_rng(0).normal(size=(N, 2)).round(3).tolist()
_WORDS = [f"n{node}" for node in _NODE]
_SPLIT = ["train"] * 15 + ["val"] * 6 + ["test"] * 9


def _csv(columns: dict[str, list]) -> bytes:
    rows = [",".join(map(str, row)) for row in zip(*columns.values())]
    return "\n".join([",".join(columns), *rows, ""]).encode()


_NODES = {
    "id": _WORDS,
    "a": [a for a, _ in _FEAT],
    "b": [b for _, b in _FEAT],
    "label": [["ham", "spam", "eggs"][node % 3] for node in _NODE],
    "split": _SPLIT,
}
_EDGES = {"source": _WORDS, "target": [_WORDS[node] for node in _NEXT]}

#: A table of nodes and one of edges that have features.
COLUMNS = {
    "nodes.csv": _csv(_NODES),
    "edges.csv": _csv({**_EDGES, "feat": [f'"{node}, 0.5"' for node in _NODE]}),
}
#: The same edges, without features, as a matrix; and one that says that it is symmetric.
MATRIX = [
    f"%%MatrixMarket matrix coordinate {kind}\n{N} {N} {N}\n".encode()
    + b"".join(line % (max(u, v) + 1, min(u, v) + 1) for u, v in zip(_NODE, _NEXT))
    for kind, line in (("real general", b"%d %d 0.5\n"), ("pattern symmetric", b"%d %d\n"))
]


def _parquet() -> dict[str, bytes]:
    """Words as they are and as dictionaries; lists; compressed and not."""
    if find_spec("pyarrow") is None:
        return {}
    import pyarrow as pa
    from pyarrow import parquet

    feat = pa.array([[float(node), 0.5] for node in _NODE])
    tables = {
        "nodes.parquet": pa.table(_NODES),
        "edges.parquet": pa.table({**_EDGES, "feat": feat}),
    }
    made = {}
    for name, table in tables.items():
        target = io.BytesIO()
        codec = "snappy" if name == "nodes.parquet" else "none"
        parquet.write_table(table, target, compression=codec)
        made[name] = target.getvalue()
    return made


#: None without pyarrow.
PARQUET = _parquet()


def _network(label: str) -> nx.DiGraph:
    graph = nx.DiGraph()
    for node, word in enumerate(_WORDS):
        a, b = _FEAT[node]
        graph.add_node(word, a=a, b=b, split=_SPLIT[node], **{label: node % 3})
    graph.add_edges_from(zip(_EDGES["source"], _EDGES["target"]), feat=0.5)
    return graph


def _written(write, graph: nx.Graph) -> bytes:
    target = io.BytesIO()
    write(graph, target)
    return target.getvalue()


def gml() -> list[bytes]:
    """One way, both ways, and with several edges between two nodes."""
    graph = _network("y")
    several = nx.MultiDiGraph(graph)
    several.add_edge("n0", "n1", feat=2.5)
    return [_written(nx.write_gml, each) for each in (graph, graph.to_undirected(), several)]


def graphml() -> list[bytes]:
    """The same."""
    graph = _network("label")
    several = nx.MultiGraph(graph)
    several.add_edge("n0", "n1", feat=2.5)
    return [_written(nx.write_graphml, each) for each in (graph, several)]


def _as_csr(adj_t: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return adj_t.to_sparse_csr()


def _tensors() -> list[bytes]:
    """What ``torch.save(data.to_dict(), path)`` writes: an edge_index, or an adj_t of two kinds."""
    index = torch.tensor([[*_NODE], _NEXT])
    values = torch.ones(N)
    adj_t = torch.sparse_coo_tensor(index.flip(0), values, (N, N), check_invariants=True)
    masks = {f"{part}_mask": torch.tensor([s == part for s in _SPLIT]) for part in set(_SPLIT)}
    common = {
        "x": torch.tensor(_FEAT),
        "y": torch.arange(N) % 3,
        "edge_attr": torch.rand(N, 2, generator=torch.Generator().manual_seed(0)),
        **dict(sorted(masks.items())),
    }
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.pt")
        for edges in (
            {"edge_index": index, "num_nodes": N},
            {"adj_t": adj_t},
            {"adj_t": _as_csr(adj_t)},
        ):
            torch.save({**edges, **common}, path)
            made.append(path.read_bytes())
    return made


TENSORS = _tensors()
