"""The parameters of a model by depth."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lipzoo.nn import AttentionConv

__all__ = ["layer_groups"]


def layer_groups(
    model: nn.Module,
    layers: Sequence[AttentionConv],
    norms: Sequence[nn.Module],
) -> dict[str, list[nn.Parameter]]:
    """``input``, ``layer_1`` … ``layer_L``, ``head`` of a model with these layers and norms."""
    groups = {"input": list(model.input.parameters())}
    for index, layer in enumerate(layers):
        reads_edges = {id(parameter) for _, parameter in layer.edge_parameters()}
        parameters = [p for p in layer.parameters() if id(p) not in reads_edges]
        if len(norms):
            parameters += norms[index].parameters()
        groups[f"layer_{index + 1}"] = parameters
    groups["head"] = list(model.head.parameters())
    placed = {id(parameter) for group in groups.values() for parameter in group}
    groups["input"] += [p for p in model.parameters() if id(p) not in placed]
    return groups
