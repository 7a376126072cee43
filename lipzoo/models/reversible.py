r"""Reversible depth: the backward pass finds the states of all layers from the last two.

.. math::
    h_{l-2} = \frac{h_l - a f_l(h_{l-1})}{1 - a}

Going back from layer L to 1, :math:`f_l(h_{l-1})` is computed again, with the same dropout, for its
gradient: that gives the state before as well. So no state is kept but the last two, whatever the
depth, for the time of a second forward pass.

The layers are PyTorch's checkpoints (:func:`torch.utils.checkpoint.checkpoint`) whose input is not
kept but found. So hooks, edge features, attention weights and autocast are differentiated through
as ever, more than once, too.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from lipzoo._torch import is_exporting, is_transformed
from lipzoo.models.layers import Layer, run_layers
from lipzoo.models.recompute import Draws, SameModules
from lipzoo.nn import Reversible

__all__ = ["is_reversible", "last_states"]


def is_reversible(scheme: object) -> TypeGuard[Reversible]:
    """Whether states are found again and need not be kept."""
    return isinstance(scheme, Reversible) and not scheme.keep_states


def last_states(
    scheme: Reversible,
    layers: list[Layer],
    state: Tensor,
    attention: list[Tensor] | None = None,
    is_checkpointed: bool = False,
) -> list[Tensor]:
    """The last two states of a reversible model, each (N, hidden_feats); see :func:`run_layers`.

    What cannot go back computes as other models do, and keeps all states for a backward pass:
    blocks, whose layers leave nodes behind; 16 bits, for rounding would drown the states; and what
    ``torch.func``, a compiler or an export looks at. ``is_checkpointed`` is for these.
    """
    if not torch.is_grad_enabled() or not _goes_back(layers, state):
        first = [state]
        del state  # or h_0 would live as long as the pass
        return run_layers(scheme, layers, first.pop(), attention, is_checkpointed)
    way = _WayBack(scheme, layers)
    before = now = state
    for index in range(len(layers)):
        # The live state is handed over in a list that the first call empties: a checkpoint
        # keeps what it is called with.
        with set_checkpoint_early_stop(False):
            out, weights = checkpoint(
                way.output, index, [now], use_reentrant=False, preserve_rng_state=False
            )
        before, now = now, scheme.after_activation(out, [before, now])
        if attention is not None:
            attention.append(weights)
    way.end = before.detach(), now.detach()
    return [before, now]


def _goes_back(layers: list[Layer], state: Tensor) -> bool:
    return (
        state.element_size() >= 4
        and not (is_transformed() or is_exporting())
        and all(layer.structure.num_given == layer.structure.num_dst for layer in layers)
    )


class _WayBack:
    """The layers of a pass, and where the backward pass stands between them."""

    def __init__(self, scheme: Reversible, layers: list[Layer]) -> None:
        self.scheme, self.layers = scheme, layers
        self.draws: list[Draws] = []
        self.modules: list[SameModules] = []
        #: Whether the state that each layer reads has a gradient.
        self.has_gradient: list[bool] = []
        #: The last two states.
        self.end: tuple[Tensor, Tensor] | None = None
        #: How many layers lie below, and the states before and after the last of them.
        self.place, self.pair = 0, None

    def output(self, index: int, given: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """What layer ``index`` makes of its input, and attention weights where asked for.

        Of the state given, the first time; then of the one that is found.
        """
        if given:
            state = given.pop()
            self.draws.append(Draws(state))
            layer = self.layers[index]
            self.modules.append(SameModules(layer.modules(), layer.options.values()))
            self.has_gradient.append(state.requires_grad)
            return self._run(index, state)
        if self.place <= index:  # another backward pass begins
            self.place, self.pair = len(self.layers), self.end
        with torch.no_grad():  # layers without a gradient of their own were not asked for
            while self.place > index + 1:
                self._step_back(self._again(self.place - 1)[0])
        out, weights = self._again(index)
        self._step_back(out.detach())
        return out, weights

    def _again(self, index: int) -> tuple[Tensor, Tensor | None]:
        state = self.pair[0].detach().requires_grad_(self.has_gradient[index])
        with self.draws[index].again(), self.modules[index]:
            return self._run(index, state)

    def _run(self, index: int, state: Tensor) -> tuple[Tensor, Tensor | None]:
        out, weights = self.layers[index].attend(state)
        return self.layers[index].behind(out), weights

    def _step_back(self, out: Tensor) -> None:
        before, after = self.pair
        self.place, self.pair = self.place - 1, (self.scheme.state_before(after, out), before)
