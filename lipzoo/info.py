"""What ``lipzoo info`` says about an architecture or about pretrained weights."""

from __future__ import annotations

from typing import Any

from lipzoo.registry import find_pretrained, get_architecture, list_models, split_name
from lipzoo.weights import read_checkpoint

__all__ = ["describe"]


def describe(name: str) -> tuple[dict[str, Any], str]:
    """Facts for a program, and the same as text for a person.

    Raises
    ------
    UnknownNameError
        If there is no such architecture, tag or folder.
    """
    if name in list_models():
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
    checkpoint = read_checkpoint(find_pretrained(name))
    card = checkpoint.card
    lines = [
        f"{card.full_name}: {card.description}",
        f"source: {card.source}",
        f"model: {card.architecture.model}, {card.weights.num_parameters:,} parameters",
        *(f"  {key}: {value}" for key, value in card.architecture.args.items()),
        f"data: {card.dataset.name} {card.dataset.options}",
        f"metrics over seeds {', '.join(map(str, card.seeds))}:",
        *(f"  {key:<16} {v.mean:.4f} ± {v.std:.4f}" for key, v in card.metrics.items()),
    ]
    for baseline, metrics in card.baselines.items():
        lines.append(f"{baseline}:")
        lines += [f"  {key:<16} {v.mean:.4f} ± {v.std:.4f}" for key, v in metrics.items()]
    of_seed = ", ".join(f"{k} {v:.4f}" for k, v in card.weights.metrics.items())
    lines.append(f"these weights (seed {card.weights.seed}): {of_seed}")
    lines.append(f"licence: {card.licence}; folder: {checkpoint.folder}")
    return card.model_dump(mode="json"), "\n".join(lines)
