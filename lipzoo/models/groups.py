"""The parameters of a model by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from lipzoo.models.base import DeepAttentionNet

__all__ = ["layer_groups"]


def layer_groups(model: DeepAttentionNet) -> dict[str, list[nn.Parameter]]:
    """See :meth:`DeepAttentionNet.layer_groups`."""
    groups = {"input": list(model.input.parameters())}
    for index, layer in enumerate(model.layers):
        reads_edges = {id(parameter) for _, parameter in layer.edge_parameters()}
        parameters = [p for p in layer.parameters() if id(p) not in reads_edges]
        if len(model.norms):
            parameters += model.norms[index].parameters()
        groups[f"layer_{index + 1}"] = parameters
    groups["head"] = list(model.head.parameters())
    placed = {id(parameter) for group in groups.values() for parameter in group}
    groups["input"] += [p for p in model.parameters() if id(p) not in placed]
    return groups
