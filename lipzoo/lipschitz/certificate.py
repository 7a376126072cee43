"""A certificate: bound, estimate and certified radii of a model on a dataset, and its report."""

from __future__ import annotations

import html
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from lipzoo._atomic import write_all
from lipzoo._output import OutputFolder
from lipzoo._tables import to_csv
from lipzoo._writing import writing
from lipzoo.datasets import GraphTask
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError
from lipzoo.lipschitz.network import Bound, bound
from lipzoo.lipschitz.power_method import estimate
from lipzoo.lipschitz.radii import Robustness, robustness
from lipzoo.models import check_has_head

__all__ = ["Certificate", "certify"]


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
    """

    name: str
    dataset: str
    nodes: int
    edges: int
    bound: Bound
    estimate: float | None = None
    radii: Robustness | None = None
    notes: list[str] = field(default_factory=list)

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
            columns = (self.radii.predicted, self.radii.margin, self.radii.radius)
            files["radii.csv"] = to_csv(
                [
                    {"node": node, "class": c, "margin": m, "radius": r}
                    for node, (c, m, r) in enumerate(zip(*(x.tolist() for x in columns)))
                ]
            )
        # The JSON last: where it is, all is there.
        files["certificate.json"] = f"{content}\n".encode()
        with writing(folder):
            path = OutputFolder(folder).prepare(overwrite)
            write_all({path / name: data for name, data in files.items()})
        return path

    def report(self) -> str:
        """One HTML page that needs nothing beside it."""
        facts = [
            ("Lipschitz bound (Frobenius norm)", _cell(self.bound.frobenius)),
            ("Lipschitz bound (per node)", _cell(self.bound.per_node)),
        ]
        if self.bound.reason:
            facts.append(("why infinite", self.bound.reason))
        if self.estimate is not None:
            facts.append(("local constant found", _cell(self.estimate)))
        if self.tightness is not None:
            facts.append(("found / bound", _cell(self.tightness)))
        if self.radii is not None:
            names = {"radius_10%": "10 %", "radius_median": "median", "radius_90%": "90 %"}
            summary = self.radii.summary()
            facts += [(f"certified radius, {n}", _cell(summary[k])) for k, n in names.items()]
        heads = ("layer", "alone", "per node", "up to here", "per node", "what")
        rows = [
            (
                layer.name,
                _cell(layer.frobenius),
                _cell(layer.per_node),
                _cell(layer.up_to_frobenius),
                _cell(layer.up_to_per_node),
                layer.reason or layer.what,
            )
            for layer in self.bound.layers
        ]
        return _PAGE.format(
            title=html.escape(f"{self.name} on {self.dataset}"),
            size=f"{self.nodes:,} nodes, {self.edges:,} edges",
            facts=_rows(facts),
            heads="".join(f"<th>{head}</th>" for head in heads),
            layers=_rows(rows),
            picture=self._picture(),
            notes="".join(f"<p>{html.escape(note)}</p>" for note in self.notes),
        )

    def _picture(self) -> str:
        if self.radii is None:
            return ""
        from lipzoo.lipschitz.plots import plot_curve, svg

        try:
            return svg(plot_curve(self.radii.curve()))
        except ConfigError:  # matplotlib is an optional extra; the numbers are in the JSON
            return ""


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
    if "encoding" in task.options:
        notes.append("the features are encoded: bound and radii are of the encoded ones")
    limit, feat = bound(model, task.graph), task.stored_feat
    value = None
    if iterations:
        value = float(estimate(model, task.graph, feat, iterations=iterations, search=search))
    certified = None
    if radii and task.multilabel:
        notes.append("nodes have several labels: there is no predicted class to certify")
    elif radii and getattr(model, "edge_feats", 0):
        notes.append("the model reads edge features: no radii are derived for it; they stay fixed")
    elif radii:
        certified = robustness(model, task.graph, feat)
    return Certificate(
        name or type(model).__name__,
        task.name,
        task.num_nodes,
        task.num_edges,
        limit,
        value,
        certified,
        notes,
    )


def _cell(value: float) -> str:
    return f"{value:.4g}".replace("inf", "∞")


def _rows(rows) -> str:
    return "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
td, th {{ padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }}
td:first-child, th:first-child, td:last-child, th:last-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
<p>{size}</p>
<table>
{facts}
</table>
<h2>Layers</h2>
<table>
<tr>{heads}</tr>
{layers}
</table>
{picture}
{notes}
<p>The bound holds for all features; certified radii are for these features, and for every node's
features moving at once, each by at most the radius. The graph and the weights stay.</p>
</html>
"""
