"""A certificate: bound, estimate and certified radii of a model on a dataset, and its report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from lipzoo._output import OutputFolder
from lipzoo._page import Picture, Section, Table, cell, page
from lipzoo._tables import to_csv
from lipzoo.datasets import GraphTask
from lipzoo.datasets.names import node_ids
from lipzoo.encoding import class_names, encode_for, is_multilabel
from lipzoo.errors import ConfigError
from lipzoo.lipschitz.network import Bound, bound
from lipzoo.lipschitz.power_method import estimate
from lipzoo.lipschitz.radii import Robustness, robustness
from lipzoo.models import check_has_head
from lipzoo.plots.certified import certified_shares

__all__ = ["Certificate", "certify", "without_radii"]

#: What a task's options say was made of the features before the model reads them.
_MADE = {"scaling": "scaled", "missing_fill": "filled in", "encoding": "encoded"}


@dataclass(frozen=True)
class Certificate:
    """What :func:`certify` found.

    Parameters
    ----------
    name, dataset : str
        Model and data.
    nodes, edges : int
        Size of the graph, without the self-loops that the model adds.
    bound : Bound
        The proven constant, with its layers.
    estimate : float or None
        A local constant at the data's features, or the largest that a search found.
    radii : Robustness or None
        Certified radii; ``None`` where nodes have several labels, or where they were not asked.
    notes : list of str
        What the reader should know.
    node_ids : sequence of N int or str
        What the nodes are called; by default 0..N-1.
    class_names : sequence of C str
        What the classes are called; by default 0..C-1.
    """

    name: str
    dataset: str
    nodes: int
    edges: int
    bound: Bound
    estimate: float | None = None
    radii: Robustness | None = None
    notes: list[str] = field(default_factory=list)
    node_ids: Sequence[int | str] = field(default=(), repr=False)
    class_names: Sequence[str] = ()

    @property
    def tightness(self) -> float | None:
        """Estimate over bound."""
        if self.estimate is None or not self.bound.is_finite or not self.bound.frobenius:
            return None
        return self.estimate / self.bound.frobenius

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        content = {
            "name": self.name,
            "dataset": self.dataset,
            "nodes": self.nodes,
            "edges": self.edges,
            "bound": self.bound.to_dict(),
            "estimate": self.estimate,
            "estimate_over_bound": self.tightness,
            "notes": self.notes,
        }
        if self.radii is not None:
            content["radii"] = self.radii.summary()
            content["certified"] = [
                {"radius": radius, "share": share} for radius, share in self.radii.curve()
            ]
        return content

    def text(self) -> str:
        """For people: the layer table, and a line a figure."""
        lines = [
            f"{self.name} on {self.dataset} ({self.nodes:,} nodes, {self.edges:,} edges)",
            self.bound.table(),
        ]
        if self.estimate is not None:
            ratio = "" if self.tightness is None else f", {self.tightness:.3g} of the bound"
            lines.append(f"local constant found {self.estimate:.4g}{ratio}")
        if self.radii is not None:
            facts = self.radii.summary()
            lines.append(
                f"certified radius of a node's class: median {facts['radius_median']:.3g}, "
                f"10 % to 90 % of the nodes {facts['radius_10%']:.3g} to {facts['radius_90%']:.3g}"
                + (f" ({facts['reason']})" if facts["reason"] else "")
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def write(self, folder: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write ``layers.csv``, ``radii.csv``, ``report.html`` and, last, ``certificate.json``.

        Where that is absent, a process was killed while it wrote the others.

        Raises
        ------
        OutputError
            If the folder holds something and ``overwrite`` is false, or cannot be written.
        """
        content = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        files = {
            "layers.csv": to_csv(self.to_dict()["bound"]["layers"]),
            "report.html": self.report().encode("utf-8"),
        }
        if self.radii is not None:
            files["radii.csv"] = to_csv(self._radii_rows())
        # The JSON last: where it is, all is there.
        files["certificate.json"] = f"{content}\n".encode()
        return OutputFolder(folder).fill(files, overwrite, ["radii.csv"])

    def _radii_rows(self) -> list[dict[str, int | str | float]]:
        """As predictions are written: nodes and classes by what they are called."""
        numbers = (self.radii.predicted, self.radii.margin, self.radii.radius)
        rows = zip(self.node_ids or range(self.nodes), *(x.tolist() for x in numbers), strict=True)
        named = self.class_names
        return [
            {"node": node, "class": named[c] if named else c, "margin": margin, "radius": radius}
            for node, c, margin, radius in rows
        ]

    def report(self) -> str:
        """One HTML page that needs nothing beside it: :meth:`sections`, of all nodes."""
        size = f"{self.nodes:,} nodes, {self.edges:,} edges"
        return page(f"{self.name} on {self.dataset}", [size], self.sections())

    def sections(
        self, nodes: Tensor | None = None, whose: str = "all", right: Tensor | None = None
    ) -> list[Section]:
        """The bound, and the radii where there are any, as parts of a page.

        Parameters
        ----------
        nodes : bool Tensor (N,), optional
            Whose radii are shown; by default those of all.
        whose : str
            What these nodes are called.
        right : bool Tensor (N,), optional
            Nodes that are predicted right, of which the share is shown too.
        """
        return [self._bound_section(), *self._radii_sections(nodes, whose, right)]

    def _bound_section(self) -> Section:
        facts = [
            ("Lipschitz bound (Frobenius norm)", self.bound.frobenius),
            ("Lipschitz bound (per node)", self.bound.per_node),
        ]
        if self.estimate is not None:
            facts.append(("local constant found", self.estimate))
        if self.tightness is not None:
            facts.append(("found / bound", self.tightness))
        layers = [
            (
                layer.name,
                *map(cell, (layer.frobenius, layer.per_node)),
                *map(cell, (layer.up_to_frobenius, layer.up_to_per_node)),
                layer.reason or layer.what,
            )
            for layer in self.bound.layers
        ]
        heads = ("layer", "alone", "per node", "up to here", "per node", "what")
        words = (
            "However the features of the nodes change, the logits change by at most the bound "
            "times that, both measured by the Frobenius norm of the matrix; per node, by the "
            "largest norm of a row. The graph and the weights stay."
        )
        if self.bound.reason:
            words = f"There is no finite bound: {self.bound.reason}."
        words = " ".join([words, *(f"Note: {note}." for note in self.notes)])
        tables = (
            Table("Lipschitz constants", ("what", "value"), [(n, cell(v)) for n, v in facts]),
            Table("Bounds by layer", heads, layers),
        )
        return Section("bound", "Lipschitz bound", words, (), tables, self.bound.to_dict())

    def _radii_sections(
        self, nodes: Tensor | None, whose: str, right: Tensor | None
    ) -> list[Section]:
        if self.radii is None:
            return []
        summary, curves = self.radii.summary(nodes), {"certified": self.radii.curve(nodes)}
        if right is not None:
            # A radius of -1 is certified at no radius.
            kept = torch.where(right.to(self.radii.radius.device), self.radii.radius, -1.0)
            radii = kept if nodes is None else kept[nodes]
            curves["certified and right"] = [
                (radius, (radii >= radius).double().mean().item())
                for radius, _ in curves["certified"]
            ]
        names = {"radius_10%": "10 %", "radius_median": "median", "radius_90%": "90 %"}
        quantiles = [(name, cell(summary[key])) for key, name in names.items()]
        some = range(0, len(curves["certified"]), max(1, len(curves["certified"]) // 10))
        points = [
            (cell(curves["certified"][i][0]), *(f"{curve[i][1]:.3f}" for curve in curves.values()))
            for i in some
        ]
        words = (
            f"The predicted class of a node provably stays while the features of every node move "
            f"at once, each by at most the radius: share of the {summary['nodes']:,} {whose} nodes "
            f"over the radius. Method: {self.radii.method}."
        )
        if self.radii.reason:
            words += f" Note: {self.radii.reason}."
        tables = (
            Table("Certified radius by quantile of the nodes", ("quantile", "radius"), quantiles),
            Table("Share of the nodes", ("radius", *curves), points),
        )
        pictures: tuple[Picture, ...] = ()
        try:
            alt = (
                f"Share of {whose} nodes that are certified over the radius; the median radius is "
                f"{summary['radius_median']:.3g}."
            )
            pictures = (Picture("radii", certified_shares(curves), alt),)
        except ConfigError as fault:  # matplotlib is an optional extra; the numbers are here
            words += f" No picture: {fault}."
        facts = {**summary, "curves": {name: list(map(list, c)) for name, c in curves.items()}}
        return [Section("radii", "Certified radii", words, pictures, tables, facts)]


def certify(
    model: nn.Module,
    task: GraphTask,
    *,
    name: str = "",
    iterations: int = 20,
    search: int = 0,
    radii: bool = True,
) -> Certificate:
    """Bound, estimate and certified radii of a model of the zoo on a dataset.

    Parameters
    ----------
    model : DeepAttentionNet
        The model.
    task : GraphTask
        Graph and features; labels are not needed. Encoded here where the model's card says so.
    name : str
        Of the model, for the report.
    iterations, search : int
        See :func:`~lipzoo.lipschitz.estimate`; 0 iterations leave it out.
    radii : bool
        Compute certified radii.

    Raises
    ------
    ConfigError, DataError
        If a number is negative, the model is a body without a head, or the data does not fit it.
    """
    if iterations < 0 or search < 0:
        raise ConfigError(f"iterations and search must be >= 0, got {iterations} and {search}")
    card = getattr(model, "card", None)
    if card is not None and card.reads_context:
        raise ConfigError(
            f"certify: {card.full_name} read what was made of labels, and no features: there is "
            "nothing whose change could be bounded"
        )
    check_has_head(model, name)
    task, notes = encode_for(model, task), []
    if made := [word for option, word in _MADE.items() if option in task.options]:
        are = " and ".join(made)
        notes.append(f"the features are {are}: bound and radii are of the {are} ones")
    limit, feat = bound(model, task.graph), task.stored_feat
    value = None
    if iterations:
        value = float(estimate(model, task.graph, feat, iterations=iterations, search=search))
    certified = None
    if radii and (why := without_radii(model, task)):
        notes.append(why)
    elif radii:
        certified = robustness(model, task.graph, feat)
    names = class_names(model, task)
    return Certificate(
        name or type(model).__name__,
        task.name,
        task.num_nodes,
        task.num_edges,
        limit,
        value,
        certified,
        notes,
        node_ids(task),
        names if len(names) == getattr(model, "num_classes", None) else (),
    )


def without_radii(model: nn.Module, task: GraphTask) -> str:
    """Why a model has no certified radii on a task, whatever its size; empty where it has."""
    if is_multilabel(model, task):
        return "nodes have several labels: there is no predicted class to certify"
    if getattr(model, "edge_feats", 0):
        return "the model reads edge features: no radii are derived for it; they stay fixed"
    return ""
