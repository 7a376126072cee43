"""The plots of sweeps and of the attention's scale; see :mod:`lab.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plots import is_available, legend_below, new_figure, rendered

if TYPE_CHECKING:
    from lab.report import Cell
    from lab.studies.sweep import Sweep

__all__ = [
    "accuracy_by_depth",
    "gradients_by_layer",
    "gradients_by_scale",
    "metric_by_epoch",
    "share_of_recipes",
]


def accuracy_by_depth(
    sweep: Sweep, cells: dict[tuple[str, float, int], Cell], title: str, name: str
) -> dict[str, bytes]:
    """Test metric in % against the number of layers, a panel a missing rate.

    Ours are solid lines, with the standard deviation; published figures are dashed. Nothing
    without matplotlib or results.
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
                means, spread = zip(*((cell.mean, cell.bar) for cell in ours.values()))
                axis.errorbar(
                    list(ours), means, spread, marker="o", capsize=3, label=model, **style
                )
            published = sweep.reference.test.get(model, {}).get(rate, {})
            if published:
                points = sorted(published.items())
                axis.plot(*zip(*points), "x--", alpha=0.6, label=f"{model}, published", **style)
        axis.set_xlabel("attention layers")
        shown = {depth for _, r, depth in cells if r == rate}
        axis.set_xticks([depth for depth in sweep.depths if depth in shown])
        axis.grid(alpha=0.3)
        if len(rates) > 1:
            axis.set_title(f"{rate:.0%} missing vectors", fontsize="medium")
    axes[0].set_ylabel(f"test metric on {sweep.dataset}, %")
    legend_below(figure, axes, columns=3)
    return rendered(figure, name)


def metric_by_epoch(
    sweep: Sweep, means: dict[tuple[str, int], list[tuple[int, float]]], title: str, name: str
) -> dict[str, bytes]:
    """Validation metric in % by epoch, mean over the seeds, a panel a depth."""
    if not (is_available() and means):
        return {}
    depths = [depth for depth in sweep.depths if any(d == depth for _, d in means)]
    figure = new_figure(1.5 + 3 * len(depths), 4, title)
    axes = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for axis, depth in zip(axes, depths):
        for number, model in enumerate(sweep.models):
            if (model, depth) in means:
                axis.plot(*zip(*means[model, depth]), color=f"C{number}", label=model)
        axis.set_title(f"{depth} layers", fontsize="medium")
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"validation metric on {sweep.dataset}, %")
    legend_below(figure, [axes[0]], columns=3)
    return rendered(figure, name)


def share_of_recipes(
    sweep: Sweep, cells: dict[tuple[str, float, int], Cell], title: str, name: str
) -> dict[str, bytes]:
    """The share of recipes that reach a test metric, a panel a depth. Nothing without results."""
    if not (is_available() and cells):
        return {}
    depths = [depth for depth in sweep.depths if any(d == depth for _, _, d in cells)]
    figure = new_figure(4.5 * len(depths), 4, title)
    axes = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for axis, depth in zip(axes, depths):
        for number, model in enumerate(sweep.models):
            for (m, _, d), cell in cells.items():
                if (m, d) == (model, depth):
                    tests = sorted((100 * value for value in cell.test), reverse=True)
                    # At the k-th largest metric the share falls from k/n to (k-1)/n.
                    shares = [100 * (k + 1) / len(tests) for k in range(len(tests))]
                    style = {"where": "pre", "color": f"C{number}", "label": model}
                    axis.step(tests[::-1], shares[::-1], **style)
        axis.set_title(f"{depth} layers", fontsize="medium")
        axis.set_xlabel(f"test metric on {sweep.dataset}, %")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("recipes that reach it, %")
    legend_below(figure, axes, columns=4)
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
    legend_below(figure, [axes[0, 0]], columns=3)
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


def rounding_by_scale(rows: list[dict], title: str, name: str) -> dict[str, bytes]:
    """Error of the gradients of a reversible network against the scale of its attention vectors."""
    if not is_available():
        return {}
    figure = new_figure(6.5, 4.5, title)
    axis = figure.subplots()
    kinds = dict.fromkeys((row["score_norm"], row["feature_norm"]) for row in rows)
    for score_norm, feature_norm in kinds:
        of_kind = [
            r for r in rows if (r["score_norm"], r["feature_norm"]) == (score_norm, feature_norm)
        ]
        label = ("no score norm" if score_norm == "none" else "LipschitzNorm") + (
            ", LayerNorm" if feature_norm != "none" else ""
        )
        style = {
            "color": "C1" if score_norm == "none" else "C0",
            "linestyle": "-" if feature_norm == "none" else "--",
        }
        points = [(row["scale"], float(row["reversible_error"])) for row in of_kind]
        axis.loglog(*zip(*points), marker="o", label=label, **style)
        plain = [(row["scale"], float(row["plain_error"])) for row in of_kind]
        axis.loglog(*zip(*plain), marker="x", alpha=0.4, label=f"{label}, states kept", **style)
    axis.set_xlabel("attention vectors multiplied by")
    axis.set_ylabel("error of the gradients, relative")
    axis.grid(alpha=0.3)
    legend_below(figure, [axis], columns=2)
    return rendered(figure, name)


def memory_by_depth(rows: list[dict], title: str, name: str) -> dict[str, bytes]:
    """Bytes a node and processor seconds of a training step against depth."""
    if not (is_available() and all(row["kept_bytes_per_node"] for row in rows)):
        return {}
    figure = new_figure(11, 4, title)
    axes = figure.subplots(1, 3)
    columns = {
        "kept_bytes_per_node": "kept for the backward pass, bytes a node",
        "peak_bytes_per_node": "held at most, bytes a node",
        "cpu_seconds": "processor seconds a step",
    }
    for axis, (column, label) in zip(axes, columns.items()):
        for way in dict.fromkeys(row["keeps"] for row in rows):
            points = [(r["layers"], float(r[column])) for r in rows if r["keeps"] == way]
            axis.loglog(*zip(*points), marker="o", label=way)
        depths = sorted({row["layers"] for row in rows})
        axis.set_xticks(depths, [str(depth) for depth in depths])
        axis.minorticks_off()
        axis.set_xlabel("attention layers")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    legend_below(figure, axes[:1], columns=3)
    return rendered(figure, name)
