"""How well nodes are told apart, by what is around them: their degree, their neighbours' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention import as_structure
from lipzoo.errors import DataError
from lipzoo.plots.arrays import as_numbers, interval
from lipzoo.plots.style import COLOURS, INK, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Group",
    "accuracy_by_degree",
    "accuracy_by_homophily",
    "by_degree",
    "by_homophily",
    "node_degrees",
    "node_homophily",
]


@dataclass(frozen=True)
class Group:
    """Nodes that are alike.

    Parameters
    ----------
    name : str
        What they share: ``"3–4"``.
    count : int
        How many they are.
    right : int
        How many of them are predicted right.
    low, high : float
        95 % interval of the share (Wilson).
    """

    name: str
    count: int
    right: int
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return self.right / self.count


def node_degrees(graph: Any, num_nodes: int | None = None) -> Tensor:
    """In-edges of each node from other nodes, int64 (N,); those that are there twice count twice.

    Parameters
    ----------
    graph : DGLGraph, Structure or any other graph
    num_nodes : int, optional
        N, where the graph does not say it.
    """
    structure = _structure(graph, num_nodes)
    src, dst = structure.src.long().cpu(), structure.dst.long().cpu()
    return torch.bincount(dst[src != dst], minlength=structure.num_dst)


def node_homophily(graph: Any, labels: Tensor) -> Tensor:
    r"""Share of a node's labelled in-neighbours that have its label, float64 (N,).

    .. math:: h_i = \frac{|\{ j \in N(i) : y_j = y_i \}|}{|\{ j \in N(i) : y_j \ne -1 \}|}

    without the node itself; NaN where it has no label, or no neighbour with one.

    Parameters
    ----------
    graph : DGLGraph, Structure or any other graph
    labels : int Tensor (N,)
        Classes, -1 for a node without a label.

    Raises
    ------
    DataError
        If nodes have several labels each, or not each node has one.

    References
    ----------
    Pei et al., "Geom-GCN", ICLR 2020, for the homophily of a node.
    """
    labels = torch.as_tensor(labels).cpu()
    structure = _structure(graph, len(labels))
    if labels.dim() != 1 or len(labels) != structure.num_dst:
        raise DataError(
            f"labels are {tuple(labels.shape)}, and homophily needs ({structure.num_dst},): one "
            "class a node"
        )
    src, dst = structure.src.long().cpu(), structure.dst.long().cpu()
    counts = (src != dst) & (labels[src] >= 0)
    src, dst = src[counts], dst[counts]
    known = torch.bincount(dst, minlength=len(labels))
    alike = torch.bincount(dst[labels[src] == labels[dst]], minlength=len(labels))
    share = alike.double() / known
    return torch.where(labels >= 0, share, torch.nan)


def _structure(graph: Any, num_nodes: int | None) -> Any:
    feat = None if num_nodes is None else torch.empty(num_nodes, 0)
    return as_structure(graph, feat=feat)


def by_degree(degrees: Any, right: Any) -> list[Group]:
    """Nodes by their degree: 0, 1, 2, 3–4, 5–8, … to the next power of two.

    Parameters
    ----------
    degrees : Tensor or array (n,)
        Of the nodes, 0 or larger.
    right : Tensor or array (n,)
        Whether each is predicted right.

    Raises
    ------
    DataError
        If there are none, or they are not as many.
    """
    degrees, right = _alike(degrees, right)
    if degrees.min() < 0:
        raise DataError(f"degrees must be 0 or larger, and one is {degrees.min():g}")
    # Of degree 1: bin 0; 2: 1; 3, 4: 2; of none: -1.
    place = np.where(degrees > 0, np.ceil(np.log2(np.maximum(degrees, 1))), -1).astype(int)
    names = {}
    for number in np.unique(place):
        first, last = 2 ** max(number - 1, 0) + 1, 2 ** max(number, 0)
        names[number] = "0" if number < 0 else f"{last}" if number < 2 else f"{first}–{last}"
    return _grouped(place, right, names)


def by_homophily(homophily: Any, right: Any, bins: int = 5) -> list[Group]:
    """Nodes by the share of their neighbours that are like them, in bins of equal width.

    Parameters
    ----------
    homophily : Tensor or array (n,)
        What :func:`node_homophily` gives, of the nodes; those of NaN are left out.
    right : Tensor or array (n,)
        Whether each is predicted right.
    bins : int
        Into which [0, 1] is cut; the last one holds 1 too.

    Raises
    ------
    DataError
        If there are none, or they are not as many.
    """
    homophily, right = _alike(homophily, right)
    known = ~np.isnan(homophily)
    if not known.any():
        raise DataError("no node has a neighbour with a label: there is no homophily")
    # 3 of 5 are 0.6 and not a hair less, whatever the division gave.
    place = np.floor(homophily[known] * bins + 1e-9).clip(0, bins - 1).astype(int)
    names = {number: f"{number / bins:.1f}–{(number + 1) / bins:.1f}" for number in range(bins)}
    return _grouped(place, right[known], names)


def _alike(values: Any, right: Any) -> tuple[np.ndarray, np.ndarray]:
    values, right = as_numbers(values, "values", 1), as_numbers(right, "right", 1)
    if len(values) != len(right) or not len(right):
        raise DataError(f"{len(values)} nodes, and of {len(right)} it is known what is right")
    return values, right


def _grouped(place: np.ndarray, right: np.ndarray, names: dict[int, str]) -> list[Group]:
    groups = []
    for number in np.unique(place):
        chosen = right[place == number]
        count, hits = len(chosen), int(chosen.sum())
        groups.append(Group(names[int(number)], count, hits, *interval(hits, count)))
    return groups


def accuracy_by_degree(
    groups: Sequence[Group], ax: Axes | None = None, *, unit: str = "nodes"
) -> Axes:
    """A bar a group of :func:`by_degree`: its accuracy, with a 95 % interval (Wilson).

    Parameters
    ----------
    groups : sequence of Group
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.
    unit : str
        What the groups count; their number stands below each bar.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If there are no groups.
    ConfigError
        If matplotlib is not installed.
    """
    return _bars(groups, "in-neighbours of a node", unit, ax)


def accuracy_by_homophily(
    groups: Sequence[Group], ax: Axes | None = None, *, unit: str = "nodes"
) -> Axes:
    """A bar a group of :func:`by_homophily`: its accuracy, with a 95 % interval (Wilson).

    Takes, returns and raises what :func:`accuracy_by_degree` does.
    """
    return _bars(groups, "share of neighbours of the node's class", unit, ax)


def _bars(groups: Sequence[Group], words: str, unit: str, ax: Axes | None) -> Axes:
    if not groups:
        raise DataError("there are no groups of nodes to draw")
    accuracy = np.array([group.accuracy for group in groups])
    ends = np.array([(group.low, group.high) for group in groups])
    total = sum(group.count for group in groups)
    with drawing(ax, 5.0, 3.6) as ax:
        places = np.arange(len(groups))
        ax.bar(places, accuracy, color=COLOURS[0], alpha=0.75, width=0.75)
        reach = {"fmt": "none", "elinewidth": 1.2, "capsize": 3}
        ax.errorbar(places, accuracy, yerr=np.abs(ends.T - accuracy), ecolor=INK, **reach)
        mean = sum(group.right for group in groups) / total
        ax.axhline(mean, color=COLOURS[1], linestyle="--", linewidth=1.2, label=f"all: {mean:.3f}")
        # Side by side there is room for some; more stand at a slant.
        is_wide = len(groups) > 7
        gap = " " if is_wide else "\n"
        names = [f"{g.name}{gap}({g.count:,})" for g in groups]
        slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_wide else {}
        ax.set_xticks(places, names, fontsize=8, **slant)
        ax.set(ylim=(0, 1.05), xlabel=f"{words} ({unit})", ylabel="accuracy")
        ax.grid(False, axis="x")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    return ax
