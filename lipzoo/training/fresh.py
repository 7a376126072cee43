"""An untrained model of an architecture, for a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lipzoo.datasets import GraphTask
from lipzoo.registry import Architecture, build_model

__all__ = ["arguments_for", "fresh_model"]


def arguments_for(
    task: GraphTask, architecture: Architecture, overrides: Mapping[str, Any], start: Any = None
) -> dict[str, Any]:
    """The architecture's arguments, ``overrides`` over them, and what the task says.

    Parameters
    ----------
    task : GraphTask
        As the model reads it: :func:`lipzoo.encoding.started`, where there is a start.
    start : optional
        What it starts from; None without.
    """
    sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes}
    reads_start = {} if start is None else {"start_logits": True}
    return {**architecture.args, **overrides, **reads_start, **sizes}


def fresh_model(
    task: GraphTask, architecture: Architecture, overrides: Mapping[str, Any], start: Any = None
) -> nn.Module:
    """A model with these arguments; see :func:`arguments_for`.

    Raises
    ------
    UnknownNameError, ConfigError
        See :func:`~lipzoo.registry.building.build_model`.
    """
    arguments = arguments_for(task, architecture, overrides, start)
    return build_model(architecture.model, arguments, where=architecture.name)
