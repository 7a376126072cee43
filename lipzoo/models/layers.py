"""The attention layers of a model, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lipzoo.attention import Structure
from lipzoo.models.recompute import SameModules
from lipzoo.nn import AttentionConv, ResidualScheme
from lipzoo.nn.feature_norms import FeatureNorm

__all__ = ["Layer", "run_layers"]


class Layer:
    """A layer on a graph: what a residual scheme calls.

    Parameters
    ----------
    conv, norm, activation : torch.nn.Module
        Attention, and what is behind it; without a feature norm None.
    structure : Structure
        What it attends over.
    edge_feat : Tensor (E', K), optional
        The features of these edges.
    need_weights : bool
        Also give the attention weights.
    """

    def __init__(
        self,
        conv: AttentionConv,
        norm: FeatureNorm | None,
        activation: nn.Module,
        structure: Structure,
        edge_feat: Tensor | None = None,
        need_weights: bool = False,
    ) -> None:
        self.conv, self.norm, self.activation, self.structure = conv, norm, activation, structure
        # A layer of somebody's own need not know of edge features.
        self.options: dict[str, Any] = {} if edge_feat is None else {"edge_feat": edge_feat}
        self.need_weights = need_weights

    def modules(self) -> Iterator[nn.Module]:
        """What it runs."""
        for part in (self.conv, self.norm, self.activation):
            if part is not None:
                yield from part.modules()

    def attend(self, read: Tensor) -> tuple[Tensor, Tensor | None]:
        """What attention puts out, (N, H * D), and its weights (E', H) where asked for."""
        if not self.need_weights:
            return self.conv(self.structure, read, **self.options).flatten(1), None
        out, weights = self.conv(self.structure, read, get_attention=True, **self.options)
        return out.flatten(1), weights.squeeze(-1)

    def behind(self, out: Tensor) -> Tensor:
        """Feature norm and activation."""
        # Feature norms look at the nodes that a layer puts out, which in a block are not
        # those it reads.
        if self.norm is not None:
            out = self.norm(self.structure, out)
        return self.activation(out)

    def own(self, state: Tensor) -> Tensor:
        """The rows of the nodes that the layer puts out."""
        structure = self.structure
        return state if structure.num_given == structure.num_dst else state[: structure.num_dst]


def run_layers(
    scheme: ResidualScheme,
    layers: list[Layer],
    state: Tensor,
    attention: list[Tensor] | None = None,
    is_checkpointed: bool = False,
    keep_all: bool = False,
) -> list[Tensor]:
    """The states that the scheme's output reads, each (N, hidden_feats), from ``h_0``.

    A state lives as long as the scheme keeps it, or autograd.

    Parameters
    ----------
    scheme : ResidualScheme
        How the layers are joined.
    layers : list of L Layer
        The layers.
    state : Tensor (N, hidden_feats)
        ``h_0``.
    attention : list, optional
        The attention weights of each layer, (E', H), are appended to it.
    is_checkpointed : bool
        Let autograd keep the states between the layers alone.
    keep_all : bool
        Return ``[h_0, …, h_L]``.
    """
    states = [state]
    del state  # or h_0 would live as long as the pass
    is_checkpointed = is_checkpointed and torch.is_grad_enabled()
    for layer in layers:
        if is_checkpointed:
            modules = [*layer.modules(), *scheme.modules()]
            same = SameModules(modules, layer.options.values())
            states, weights = checkpoint(
                _next_states,
                scheme,
                layer,
                states,
                use_reentrant=False,
                context_fn=lambda same=same: (nullcontext(), same),
            )
        else:
            states, weights = _next_states(scheme, layer, states)
        if not keep_all:
            states = scheme.read_later(states)
        if attention is not None:
            attention.append(weights)
    return states


def _next_states(
    scheme: ResidualScheme, layer: Layer, states: list[Tensor]
) -> tuple[list[Tensor], Tensor | None]:
    """The states after a layer, and its attention weights (E', H) where asked for."""
    weights = None

    def attend(read: Tensor) -> Tensor:
        nonlocal weights
        out, weights = layer.attend(read)
        return out

    state = scheme.next_state(states, attend, layer.behind, layer.own)
    # A new list: a checkpoint runs this again on the states it was given.
    return [*map(layer.own, states), state], weights
