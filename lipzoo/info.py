"""What ``lipzoo info`` says about an architecture or about pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lipzoo._memory import available_memory, shown_bytes
from lipzoo._tables import figure_lines, markdown_table, text_table, with_spread
from lipzoo.card import Card, Summary
from lipzoo.errors import ConfigError
from lipzoo.registry import (
    find_checkpoint,
    get_architecture,
    is_architecture,
    list_models,
    split_name,
)

if TYPE_CHECKING:
    from lipzoo.training.memory import GraphSizes

__all__ = ["decisive", "describe", "describe_memory", "percent", "pretrained_table"]


def describe(name: str) -> tuple[dict[str, Any], str]:
    """Facts for a program, and the same as text for a person.

    Raises
    ------
    UnknownNameError
        If there is no such architecture, tag or folder.
    """
    if is_architecture(name):
        return _describe_architecture(name)
    return _describe_weights(name)


def _describe_architecture(name: str) -> tuple[dict[str, Any], str]:
    found = get_architecture(name)
    trained = [n for n in list_models(pretrained=True) if split_name(n)[0] == name]
    facts = {
        "name": name,
        "description": found.description,
        "source": found.source,
        "model": found.model,
        "args": found.args,
        "pretrained": trained,
        "path": str(found.path),
    }
    lines = [
        f"{name}: {found.description}",
        f"source: {found.source}",
        f"model: {found.model}",
        *(f"  {key}: {value}" for key, value in found.args.items()),
        f"pretrained: {', '.join(trained) or 'none'}",
        f"defined in {found.path}",
    ]
    return facts, "\n".join(lines)


def _describe_weights(name: str) -> tuple[dict[str, Any], str]:
    checkpoint = find_checkpoint(name)
    card = checkpoint.card
    lines = [
        f"{card.full_name}: {card.description}",
        f"source: {card.source}",
        f"model: {card.architecture.model}, {card.weights.num_parameters:,} parameters",
        *(f"  {key}: {value}" for key, value in card.architecture.args.items()),
        *(f"data: {e.name} {e.options}" for e in card.pretrained_on or [card.dataset]),
        *([f"encoding: {card.encoding}"] if card.encoding else []),
        *([f"start: {card.start.of}, from the training labels"] if card.start else []),
        f"metrics over {_seeds(card)}:",
        *_figures(card.metrics),
    ]
    for baseline, metrics in card.baselines.items():
        lines.append(f"{baseline}:")
        lines += _figures(metrics)
    of_seed = ", ".join(f"{k} {v:.4f}" for k, v in card.weights.metrics.items())
    lines.append(f"these weights (seed {card.weights.seed}): {of_seed}")
    lines.append(f"licence: {card.licence}; folder: {checkpoint.folder}")
    return card.model_dump(mode="json"), "\n".join(lines)


def describe_memory(
    name: str,
    sizes: GraphSizes,
    where: str = "",
    is_loaded: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str]:
    """The memory that a training of ``name`` needs, for a program and as text.

    Parameters
    ----------
    name : str
        An architecture, or pretrained weights.
    sizes : GraphSizes
        Of the data.
    where : str
        What the data are called.
    is_loaded : bool
        Whether this process holds them.
    overrides : mapping, optional
        Arguments of the model class, over those of the architecture.

    Raises
    ------
    UnknownNameError
        If there is no such architecture, tag or folder.
    ConfigError
        If the weights read a graph's labels in context.
    """
    from lipzoo.training.memory import memory_needed

    model, args, sizes = _as_read(name, sizes)
    needed = memory_needed(model, {**args, **(overrides or {})}, sizes)
    available = available_memory()
    # What Python, PyTorch and the kernels take, and the data.
    loaded = sizes.data_bytes if is_loaded else 0
    base = {way: sizes.data_bytes + max(0, need.process - loaded) for way, need in needed.items()}
    facts: dict[str, Any] = {
        "nodes": sizes.nodes,
        "edges": sizes.edges + sizes.loops,
        "data": sizes.data_bytes,
        "ways": {
            way: {
                "process": base[way] - sizes.data_bytes,
                "in_use": base[way] + need.in_use,
                "held": base[way] + need.held,
            }
            for way, need in needed.items()
        },
        "available": available,
    }
    rows = [
        {"memory": way, **{key: shown_bytes(value) for key, value in need.items()}}
        for way, need in facts["ways"].items()
    ]
    graph = f"{sizes.nodes:,} nodes, {facts['edges']:,} edges, {sizes.in_feats} features"
    lines = [
        f"on {where + ': ' if where else ''}{graph}, on the CPU",
        *(f"  {line}" for line in text_table(rows)),
        f"each with the data, {shown_bytes(sizes.data_bytes)}, and the process: Python, PyTorch "
        "and the kernels",
    ]
    if any(need.held > need.in_use for need in needed.values()):
        lines.append(
            "held: with the holes that glibc's malloc keeps, a middle value; "
            "MALLOC_MMAP_THRESHOLD_=1048576 in the environment gives them back"
        )
    if available is not None:
        lines.append(f"available here: {shown_bytes(available)}")
    return facts, "\n".join(lines)


def _as_read(name: str, sizes: GraphSizes) -> tuple[str, dict[str, Any], GraphSizes]:
    """Model class, arguments, and the sizes of the data as the model reads them."""
    from lipzoo.context.start import num_start_columns

    card = None if is_architecture(name) else find_checkpoint(name).card
    found = get_architecture(name) if card is None else card.architecture
    if found.model == "InContextGATv2":
        raise ConfigError(
            f"{name}: reads a graph's labels in context; how much memory that needs is told of "
            "architectures and weights that read features alone"
        )
    if card is not None and card.start is not None:
        wider = sizes.in_feats + num_start_columns(sizes.num_classes)
        sizes = replace(sizes, in_feats=wider, nonzero=None)
    if card is not None and card.encoding is not None:
        sizes = replace(sizes, in_feats=found.args["in_feats"], nonzero=None)
    return found.model, found.args, sizes


def pretrained_table() -> str:
    """A Markdown table of all pretrained weights, from their cards."""
    rows = []
    for name in list_models(pretrained=True):
        card = find_checkpoint(name).card
        layers = str(card.architecture.args["num_layers"])
        what = [f"`{name}`", layers, f"{card.weights.num_parameters:,}"]
        if card.pretrained_on:
            seen = ", ".join(entry.name for entry in card.pretrained_on)
            words = f"a network without a head, pretrained on {seen}: docs/transfer.md"
            if card.reads_context:
                words = "predicts a graph from known labels, without training: docs/context.md"
            rows.append([*what, "-", str(len(card.seeds)), words])
            continue
        metric = decisive(card)
        beside = ", ".join(
            f"{baseline.replace('_', ' ')}: {percent(metrics[f'test_{metric}'])}"
            for baseline, metrics in card.baselines.items()
        )
        words = "" if metric == "accuracy" else f" ({metric})"
        reached = f"{percent(card.metrics[f'test_{metric}'])}{words}"
        rows.append([*what, reached, str(len(card.seeds)), beside or "-"])
    header = ["name", "layers", "parameters", "test %", "seeds", "compared with"]
    return "\n".join(markdown_table(header, rows))


def decisive(card: Card) -> str:
    """The metric that the card's figures are of; nothing where it has none."""
    names = [key.removeprefix("test_") for key in card.metrics if key.startswith("test_")]
    return next((name for name in names if name != "loss"), "")


def percent(summary: Summary) -> str:
    """``83.4 ± 0.5``; of one seed there is no spread."""
    return with_spread(100 * summary.mean, 100 * summary.std, len(summary.values), digits=1)


def _figures(metrics: dict[str, Summary]) -> list[str]:
    return figure_lines({name: (v.mean, v.std, len(v.values)) for name, v in metrics.items()})


def _seeds(card: Card) -> str:
    if len(card.seeds) == 1:
        return f"one seed ({card.seeds[0]})"
    return f"seeds {', '.join(map(str, card.seeds))}{card.words_per_seed}"
