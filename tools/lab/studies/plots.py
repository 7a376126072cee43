"""Plots of a sweep as SVG and PNG; none without matplotlib, which is an optional extra."""

from __future__ import annotations

import importlib.util
import io
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.studies.report import Cells
    from lab.studies.sweep import Sweep

__all__ = [
    "accuracy_by_depth",
    "gradients_by_layer",
    "gradients_by_scale",
    "is_available",
    "new_figure",
    "rendered",
]


def is_available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def accuracy_by_depth(sweep: Sweep, cells: Cells, title: str, name: str) -> dict[str, bytes]:
    """Test metric in % against the number of layers, a panel a missing rate.

    Ours are solid lines, with the standard deviation; published figures are dashed.

    Returns
    -------
    dict
        ``{"<name>.svg": …, "<name>.png": …}``; empty without matplotlib or results.
    """
    if not (is_available() and cells):
        return {}
    rates = [float(rate) for rate in sweep.missing_rates]
    figure = new_figure(5.5 * len(rates), 4, title)
    axes = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
    for axis, rate in zip(axes, rates):
        for number, model in enumerate(sweep.models):
            style = {"color": f"C{number}"}
            ours = {d: c for (m, r, d), c in sorted(cells.items()) if (m, r) == (model, rate)}
            if ours:
                spread = [0.0 if math.isnan(cell.std) else cell.std for cell in ours.values()]
                means = [cell.mean for cell in ours.values()]
                axis.errorbar(
                    list(ours), means, spread, marker="o", capsize=3, label=model, **style
                )
            published = sweep.reference.test.get(model, {}).get(rate, {})
            if published:
                points = sorted(published.items())
                axis.plot(*zip(*points), "x--", alpha=0.6, label=f"{model}, published", **style)
        axis.set_xlabel("attention layers")
        axis.set_xticks(sweep.depths)
        axis.grid(alpha=0.3)
        if len(rates) > 1:
            axis.set_title(f"{rate:.0%} missing vectors", fontsize="medium")
    axes[0].set_ylabel(f"test metric on {sweep.dataset}, %")
    handles = {
        label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize="small")
    return rendered(figure, name)


def gradients_by_layer(sweep: Sweep, means: dict, title: str, name: str) -> dict[str, bytes]:
    """Norms of the gradients at the weights (above) and the output (below) of each layer.

    A column an epoch; ``means`` is what :func:`~lab.studies.report.gradient_means` gives.
    """
    if not (is_available() and means):
        return {}
    epochs = sorted({epoch for _, _, epoch in means})
    figure = new_figure(1.5 + 3 * len(epochs), 6, title)
    axes = figure.subplots(2, len(epochs), sharex=True, sharey="row", squeeze=False)
    colours = {model: f"C{number}" for number, model in enumerate(sweep.models)}
    for (model, depth, epoch), (norms, _) in means.items():
        for row in (0, 1):
            axis = axes[row, epochs.index(epoch)]
            label = f"{model}, {depth} layers" if len(sweep.depths) > 1 else model
            axis.plot(range(1, depth + 1), norms[:, row], color=colours[model], label=label)
    for column, epoch in enumerate(epochs):
        axes[0, column].set_title(
            f"after {epoch} epochs" if epoch else "at initialisation", fontsize="medium"
        )
        axes[1, column].set_xlabel("layer")
    for row, what in enumerate(("weights", "output")):
        axes[row, 0].set_yscale("log")
        axes[row, 0].set_ylabel(f"gradient norm, {what}")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    handles = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels())))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize="small")
    return rendered(figure, name)


def gradients_by_scale(
    lines: dict[str, list[tuple[float, float]]], title: str, name: str
) -> dict[str, bytes]:
    """First over last layer's gradient norm against the scale of the attention vectors."""
    if not is_available():
        return {}
    figure = new_figure(5.5, 3.5, title)
    axis = figure.subplots()
    for model, points in lines.items():
        axis.loglog(*zip(*points), marker="o", label=model)
    axis.set_xlabel("attention vectors multiplied by")
    axis.set_ylabel("gradient norm, first / last layer")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    return rendered(figure, name)


def new_figure(width: float, height: float, title: str):
    """A figure of this size in inches, not counting its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height + 0.6), layout="constrained")
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure


def rendered(figure, name: str) -> dict[str, bytes]:
    """``{"<name>.svg": …, "<name>.png": …}``, the same bytes for the same figure."""
    import matplotlib

    files = {}
    # A fixed salt and no date: the same rows give the same files.
    with matplotlib.rc_context({"svg.hashsalt": "lipzoo", "svg.fonttype": "none"}):
        for kind, metadata in (("svg", {"Date": None}), ("png", None)):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata, dpi=120)
            files[f"{name}.{kind}"] = buffer.getvalue()
    return files
