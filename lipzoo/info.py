"""What ``lipzoo info`` says about an architecture or about pretrained weights."""

from __future__ import annotations

from typing import Any

from lipzoo._tables import figure_lines, markdown_table
from lipzoo.card import Card, Summary
from lipzoo.registry import (
    find_checkpoint,
    get_architecture,
    is_architecture,
    list_models,
    split_name,
)

__all__ = ["decisive", "describe", "percent", "pretrained_table"]


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


def pretrained_table() -> str:
    """A Markdown table of all pretrained weights, from their cards."""
    rows = []
    for name in list_models(pretrained=True):
        card = find_checkpoint(name).card
        layers = str(card.architecture.args["num_layers"])
        what = [f"`{name}`", layers, f"{card.weights.num_parameters:,}"]
        if card.pretrained_on:
            seen = ", ".join(entry.name for entry in card.pretrained_on)
            if card.reads_context:
                beside = f"in context, any graph without training, from {seen}: docs/context.md"
                rows.append([*what, "-", str(len(card.seeds)), beside])
                continue
            beside = f"a body without a head, from {seen}: docs/transfer.md"
            rows.append([*what, "-", str(len(card.seeds)), beside])
            continue
        metric = decisive(card)
        beside = ", ".join(
            f"{baseline.replace('_', ' ')}: {percent(metrics[f'test_{metric}'])}"
            for baseline, metrics in card.baselines.items()
        )
        words = "" if metric == "accuracy" else f" ({metric})"
        reached = f"{percent(card.metrics[f'test_{metric}'])}{words}"
        rows.append([*what, reached, str(len(card.seeds)), beside or "-"])
    header = ["name", "layers", "parameters", "test %", "seeds", "beside it"]
    return "\n".join(markdown_table(header, rows))


def decisive(card: Card) -> str:
    """The metric that the card's figures are of; nothing where it has none."""
    names = [key.removeprefix("test_") for key in card.metrics if key.startswith("test_")]
    return next((name for name in names if name != "loss"), "")


def percent(summary: Summary) -> str:
    """``83.4 ± 0.5``; of one seed there is no spread."""
    mean = f"{100 * summary.mean:.1f}"
    return f"{mean} ± {100 * summary.std:.1f}" if len(summary.values) > 1 else mean


def _figures(metrics: dict[str, Summary]) -> list[str]:
    return figure_lines({name: (v.mean, v.std, len(v.values)) for name, v in metrics.items()})


def _seeds(card: Card) -> str:
    if len(card.seeds) == 1:
        return f"one seed ({card.seeds[0]})"
    return f"seeds {', '.join(map(str, card.seeds))}{card.words_per_seed}"
