"""Parts for DistDGL: a server holds the features and in-edges of each part, and answers trainers.

DGL numbers the nodes anew, those of part 0 first. Labels and split, which each trainer reads of all
nodes, are written in that order.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from lipzoo._distdgl import GRAPH_NAME, write_distdgl_parts
from lipzoo._graph import make_graph
from lipzoo._memory import shown_bytes
from lipzoo.attention import Structure
from lipzoo.attention.structure_of import PARENT_DEGREES
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, OutputError
from lipzoo.nn.degrees import degree_counts

__all__ = [
    "SHARED",
    "check_distdgl_parts",
    "check_room",
    "disk_bytes",
    "part_files",
    "shared_bytes",
    "write_graph",
]

#: Where POSIX keeps shared memory: DGL's store of features lies there.
SHARED = Path("/dev/shm")
#: Bytes an edge and a node on the disk: both ends and the number in the whole graph, and flags.
_OF_EDGE, _OF_NODE = 32, 24


def part_files(rank: int) -> tuple[str, ...]:
    """What a server reads."""
    kinds = ("graph", "node_feat", "edge_feat")
    return (f"{GRAPH_NAME}.json", *(f"part{rank}/{kind}.dgl" for kind in kinds))


def check_distdgl_parts(task: GraphTask, structure: Structure, owner: Tensor, number: int) -> None:
    """Refuse parts that DGL cannot write.

    Raises
    ------
    ConfigError
        If a part would have no in-edges.
    """
    counts = torch.bincount(owner[structure.dst], minlength=number)
    if not bool(counts.all()):
        raise ConfigError(
            f"{task.name}: part {int(counts.argmin())} of {number} would have no in-edges, which "
            "DistDGL needs; say fewer parts"
        )


def shared_bytes(task: GraphTask, structure: Structure, owner: Tensor, number: int) -> list[int]:
    """What each server puts into shared memory: features and degrees."""
    nodes = torch.bincount(owner, minlength=number)
    found = nodes * (task.feat_of(slice(0)).element_size() * task.in_feats + 8)
    if task.edge_feat is not None:
        edges = torch.bincount(owner[structure.dst], minlength=number)
        found = found + edges * task.edge_feat.element_size() * task.edge_feats
    return found.tolist()


def disk_bytes(shared: list[int], nodes_halo_edges: list[list[int]]) -> int:
    """What the files of all parts take, at most."""
    return sum(shared) + sum(
        _OF_EDGE * edges + _OF_NODE * (nodes + halo) for nodes, halo, edges in nodes_halo_edges
    )


def check_room(place: Path, needed: int, words: str) -> None:
    """Refuse what there is no room for.

    Raises
    ------
    OutputError
    """
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OutputError(
            f"{place}: {words} {shown_bytes(needed)}, and {shown_bytes(free)} are free; make room"
        )


def write_graph(
    task: GraphTask, structure: Structure, owner: Tensor, number: int, folder: Path
) -> Tensor:
    """Write the parts; which node of the task each of their nodes is, (N,)."""
    graph = make_graph(structure.src.long(), structure.dst.long(), task.num_nodes)
    graph.ndata["feat"] = task.feat.cpu()
    graph.ndata[PARENT_DEGREES] = structure.derived(degree_counts)
    if task.edge_feat is not None:
        graph.edata["feat"] = task.edge_feat.cpu()
    return write_distdgl_parts(graph, owner, number, folder)
