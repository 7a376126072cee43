"""The tables of ``lipzoo list``: what architectures and cards say, without PyTorch."""

from __future__ import annotations

import fnmatch
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

from lipzoo.errors import ConfigError, LipzooError, did_you_mean
from lipzoo.info import decisive, percent
from lipzoo.registry import find_checkpoint, get_architecture, list_models
from lipzoo.settings import METRICS
from lipzoo.weights import WEIGHTS_FILE

__all__ = ["Row", "list_rows"]

#: Sizes for which the parameters of an architecture are counted.
NOMINAL = {"in_feats": 128, "num_classes": 10}

_ARCHITECTURE = ("layers", "width", "heads", "norm")
_WEIGHTS = ("layers", "width", "norm", "parameters", "graph", "metric", "test %", "size")


@dataclass
class Row:
    """An architecture or trained weights: what is compared, and how it is written."""

    name: str
    values: dict[str, Any]
    words: dict[str, str] = field(default_factory=dict)
    graphs: tuple[str, ...] = ()

    def cells(self) -> dict[str, str]:
        """The row as text by column; "-" where there is nothing to say."""
        return {"name": self.name, **{k: self._cell(k) for k in self.values}}

    def _cell(self, column: str) -> str:
        value = self.values[column]
        if column in self.words or value is None:
            return self.words.get(column, "-")
        return f"{value:,}" if isinstance(value, int) else str(value)


def list_rows(
    pattern: str = "*",
    *,
    pretrained: bool = False,
    layers: str | None = None,
    graph: str | None = None,
    metric: str | None = None,
    parameters: bool = False,
    sort: str | None = None,
) -> list[Row]:
    """What matches, in natural order or sorted.

    Parameters
    ----------
    pattern : str
        See :func:`~lipzoo.list_models`.
    pretrained : bool
        Trained weights instead of architectures; ``graph`` and ``metric`` are of these.
    layers : str, optional
        ``"8"`` or ``"8..32"``.
    graph : str, optional
        fnmatch pattern of the data.
    metric : str, optional
        What the figures are of.
    parameters : bool
        Count those of architectures too, at :data:`NOMINAL` sizes; needs PyTorch.
    sort : str, optional
        A column; numbers from the largest on.

    Raises
    ------
    ConfigError
        If ``layers``, ``metric`` or ``sort`` is none that there is.
    """
    low, high = _span(layers)
    if metric not in (None, *METRICS):
        raise ConfigError(f"--metric: no metric {metric!r}{did_you_mean(metric, METRICS)}")
    names = list_models(pattern, pretrained=pretrained)
    count = parameters or sort == "parameters"
    rows = [_of_weights(name) if pretrained else _of_architecture(name, count) for name in names]
    columns = ["name", *(_WEIGHTS if pretrained else _ARCHITECTURE), *["parameters"] * count]
    if sort not in (None, *columns):
        raise ConfigError(f"--sort: no column {sort!r}{did_you_mean(sort, columns)}")
    kept = [
        row
        for row in rows
        if (layers is None or low <= (row.values["layers"] or 0) <= high)
        and (graph is None or any(fnmatch.fnmatch(each, graph) for each in row.graphs))
        and (metric is None or row.values.get("metric") == metric)
    ]
    return kept if sort in (None, "name") else sorted(kept, key=lambda row: _key(row.values[sort]))


def _of_architecture(name: str, count: bool) -> Row:
    args = get_architecture(name).args
    values = _of_args(args)
    if count:
        values["parameters"] = _count_parameters(name)
    return Row(name, values)


def _of_weights(name: str) -> Row:
    try:
        checkpoint = find_checkpoint(name)
    except LipzooError as fault:  # the others are listed all the same
        warnings.warn(str(fault), stacklevel=2)
        return Row(name, dict.fromkeys(_WEIGHTS))
    card, values = checkpoint.card, dict.fromkeys(_WEIGHTS)
    values |= {k: v for k, v in _of_args(card.architecture.args).items() if k in _WEIGHTS}
    values["parameters"] = card.weights.num_parameters
    graphs = tuple(entry.name for entry in card.pretrained_on or [card.dataset])
    values["graph"] = ", ".join(graphs)
    values["size"] = size = len(checkpoint.files[WEIGHTS_FILE])
    words = {"size": f"{size / 1e6:.2f} MB"}
    if metric := decisive(card):
        reached = card.metrics[f"test_{metric}"]
        values |= {"metric": metric, "test %": reached.mean}
        words["test %"] = percent(reached)
    return Row(name, values, words, graphs)


def _of_args(args: dict[str, Any]) -> dict[str, Any]:
    norms = [args.get(key) for key in ("score_norm", "feature_norm")]
    names = [norm["name"] if isinstance(norm, dict) else norm for norm in norms]
    return {
        "layers": args.get("num_layers"),
        "width": args.get("hidden_feats"),
        "heads": args.get("num_heads"),
        "norm": " + ".join(str(name) for name in names if name) or None,
    }


def _count_parameters(name: str) -> int | None:
    """At the nominal sizes; None of a class that takes others."""
    from lipzoo._torch import without_numbers
    from lipzoo.models import count_parameters
    from lipzoo.registry import create_model

    try:
        with without_numbers():
            return count_parameters(create_model(name, **NOMINAL))
    except LipzooError:
        return None


def _span(text: str | None) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text or "0")
    if found is None:
        raise ConfigError(f"--layers {text}: must look like 8 or 8..32")
    return int(found[1]), int(found[2] or found[1])


def _key(value: Any) -> tuple:
    """Numbers from the largest on, then words, then nothing."""
    if value is None:
        return (2,)
    return (0, -value) if isinstance(value, int | float) else (1, str(value))
