"""Whom a node attends to: its in-neighbours, and how much of the attention each of them gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lipzoo._figures import need
from lipzoo.attention import as_structure
from lipzoo.errors import DataError
from lipzoo.plots.arrays import as_numbers
from lipzoo.plots.style import COLOURS, GREY, INK, PAPER, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attention", "attention_entropy"]


def attention_entropy(graph: Any, weights: Tensor) -> Tensor:
    r"""Entropy of the attention of each node and head, in nats, float64 (N, H).

    .. math:: -\sum_{j \in N(i)} p_{ij} \log p_{ij}

    Uniform attention over k in-edges has :math:`\log k`, the most there is; attention to one edge
    alone has 0.

    Parameters
    ----------
    graph : DGLGraph, Structure or any other graph
        The E edges that attention is over.
    weights : Tensor (E, H)
        Attention weights of a layer, in the order of these edges; also those that a model gives,
        where the self-loops that it added come last.

    Raises
    ------
    DataError
        If there are not as many weights as edges.
    """
    if not isinstance(weights, Tensor):
        raise DataError(
            f"attention weights are a {type(weights).__name__}: pass those of one layer, a tensor "
            "(E, H)"
        )
    structure = as_structure(graph)
    if len(weights) != structure.num_edges and not structure.is_bipartite:
        structure = structure.with_self_loops()
    if weights.dim() != 2 or len(weights) != structure.num_edges:
        raise DataError(
            f"attention weights are {tuple(weights.shape)}, and there are {structure.num_edges} "
            "edges: they must be (E, H)"
        )
    weights = weights.detach().double()
    on_edge = -torch.special.xlogy(weights, weights)
    total = on_edge.new_zeros(structure.num_dst, on_edge.shape[1])
    return total.index_add(0, structure.dst.to(weights.device), on_edge)


def attention(
    node: Any,
    neighbours: Sequence[Any],
    weights: Any,
    ax: Axes | None = None,
    *,
    classes: Any = None,
    most: int = 12,
    title: str = "",
) -> Axes:
    """A node in the middle, its in-neighbours around it; the wider an arrow, the more attention.

    Parameters
    ----------
    node : int or str
        What the node is called.
    neighbours : sequence of k int or str
        What its in-neighbours are called; the node itself, where it attends to itself.
    weights : Tensor or array (k,)
        The share of the attention of each; they sum to 1.
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.
    classes : sequence of k + 1 int, optional
        Classes of the node and of its neighbours, -1 for none: neighbours of the node's own class
        are filled with its colour, those of another with another, those without one are grey.
    most : int
        Neighbours that are drawn, those with the most attention; the title says how many are not.
    title : str
        Stands above.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If there is no neighbour, or they are not as many as the weights.
    ConfigError
        If matplotlib or networkx is not installed.
    """
    nx = need("networkx")
    weights = as_numbers(weights, "attention weights", 1)
    classes = np.full(len(weights) + 1, -1) if classes is None else np.asarray(classes)
    if not len(neighbours) == len(weights) == len(classes) - 1 or not len(weights):
        raise DataError(
            f"{len(neighbours)} neighbours, {len(weights)} attention weights and {len(classes)} "
            "classes do not belong together"
        )
    # In the order given: a neighbour has the same place in the picture of another layer.
    kept = np.sort(np.argsort(-weights, kind="stable")[:most])
    hidden = len(weights) - len(kept)
    # By their places: names may be there twice, as edges may.
    graph = nx.DiGraph()
    graph.add_node(-1)
    graph.add_edges_from((int(place), -1) for place in kept)
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(kept)) / len(kept)
    places = {int(p): (np.cos(a), np.sin(a)) for p, a in zip(kept, angles)} | {-1: (0.0, 0.0)}
    own = classes[0]
    colours = {
        int(p): GREY if c < 0 or own < 0 else COLOURS[0] if c == own else COLOURS[1]
        for p, c in zip(kept, classes[1:][kept])
    } | {-1: GREY if own < 0 else COLOURS[0]}
    largest = max(weights[kept].max(), 1e-12)
    with drawing(ax, 4.2, 3.9) as ax:
        nodes = list(graph)
        nx.draw_networkx_nodes(
            graph,
            places,
            nodes,
            ax=ax,
            node_size=[420 if n == -1 else 170 for n in nodes],
            node_color=[colours[n] for n in nodes],
            edgecolors=PAPER,
        )
        edges = list(graph.edges)
        nx.draw_networkx_edges(
            graph,
            places,
            edges,
            ax=ax,
            width=[0.4 + 3.1 * weights[source] / largest for source, _ in edges],
            edge_color=INK,
            alpha=0.55,
            node_size=[420 if n == -1 else 170 for n in nodes],
            nodelist=nodes,
            arrowsize=8,
        )
        for place, angle in zip(kept, angles):
            x, y = 1.17 * np.cos(angle), 1.17 * np.sin(angle)
            side = "center" if abs(np.cos(angle)) < 0.3 else "left" if x > 0 else "right"
            name = "itself" if neighbours[place] == node else _short(neighbours[place])
            above = "bottom" if y > 0.9 else "top" if y < -0.9 else "center"
            ax.text(x, y, f"{name}\n{weights[place]:.3f}", ha=side, va=above, fontsize=7.5)
        ax.set(xlim=(-1.75, 1.75), ylim=(-1.5, 1.5), aspect="equal")
        ax.set_axis_off()
        more = f"\n{hidden:,} more with less attention are not drawn" if hidden else ""
        ax.set_title(f"{title}{more}".strip())
    return ax


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= 10 else f"{text[:9]}…"
