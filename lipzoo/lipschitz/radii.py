r"""How far features may move before a predicted class can change: certified radii.

The perturbations are :math:`\lVert x_i' - x_i \rVert \le r` for **every** node i at once, so all
of :math:`\lVert X' - X \rVert_F \le r` too. The graph and the weights stay.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from lipzoo.errors import ConfigError, DataError, did_you_mean
from lipzoo.lipschitz.local import Spread, local_rule
from lipzoo.lipschitz.network import Bound, bound, network_fault
from lipzoo.lipschitz.pieces import hooked
from lipzoo.models import DeepAttentionNet
from lipzoo.nn import (
    AttentionConv,
    Dense,
    InitialResidual,
    JumpingKnowledge,
    NoResidual,
    Residual,
)

__all__ = ["Robustness", "robustness"]

METHODS = ("local", "global")
#: Room for the rounding of a float64 forward pass.
_SLACK = 1 - 1e-9


@dataclass(frozen=True)
class Robustness:
    """Certified radii of each node.

    Parameters
    ----------
    predicted : Tensor (N,)
        Predicted classes.
    margin : Tensor (N,)
        Largest logit less the second.
    radius : Tensor (N,)
        Within it, the predicted class provably stays.
    method : str
        ``"local"`` or ``"global"``.
    reason : str
        Why there is no certificate; empty where there is one.
    """

    predicted: Tensor = field(repr=False)
    margin: Tensor = field(repr=False)
    radius: Tensor = field(repr=False)
    method: str = "local"
    reason: str = ""

    def share_at(self, radius: float, mask: Tensor | None = None) -> float:
        """Share of the nodes (of ``mask``) whose class stays within ``radius``."""
        radii = self.radius if mask is None else self.radius[mask]
        return (radii >= radius).double().mean().item()

    def curve(self, mask: Tensor | None = None, points: int = 50) -> list[tuple[float, float]]:
        """``(radius, certified share)`` at radii that are spaced evenly in the logarithm."""
        radii = (self.radius if mask is None else self.radius[mask]).clamp_max(1e300)
        radii = radii[radii > 0]
        if not radii.numel():
            return [(0.0, 1.0)]
        low, high = radii.min(), radii.max()
        spaced = torch.logspace(low.log10(), high.log10(), points, dtype=torch.float64)
        spaced[0], spaced[-1] = low, high  # rounding would leave out the ends
        return [(r, self.share_at(r, mask)) for r in spaced.tolist()]

    def plot(self, path: str | Path, mask: Tensor | None = None) -> None:
        """Write the curve as a picture; the suffix decides its format.

        Raises
        ------
        ConfigError
            If matplotlib is not installed.
        """
        from lipzoo.lipschitz.plots import plot_curve, save

        save(plot_curve(self.curve(mask)), path)

    def summary(self, mask: Tensor | None = None) -> dict:
        """Plain values: quantiles of the radii."""
        radii = self.radius if mask is None else self.radius[mask]
        shares = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        low, median, high = torch.quantile(radii.clamp_max(1e300), shares).tolist()
        return {
            "method": self.method,
            "nodes": radii.numel(),
            "radius_10%": low,
            "radius_median": median,
            "radius_90%": high,
            "reason": self.reason,
        }


def robustness(
    model: DeepAttentionNet, graph, feat: Tensor, *, method: str = "local", points: int = 32
) -> Robustness:
    r"""Per node, a radius of feature perturbation in which its predicted class cannot change.

    .. math::
        z_y - z_c > \lVert w_y - w_c \rVert \, \delta_i(r) \quad \forall c \ne y

    where :math:`\delta_i(r)` bounds how far what the head reads of node i moves where each row of
    the features moves by at most ``r``. ``"global"``: the per-node Lipschitz constant times r.
    ``"local"``: radii passed through the layers at these features, never worse.

    Parameters
    ----------
    model : DeepAttentionNet
        A model of the zoo with at least two classes, of one label a node.
    graph : DGLGraph or Structure
        The whole graph.
    feat : Tensor (N, F)
        The features.
    method : {"local", "global"}
        See above. Local certificates exist for models without a score norm too.
    points : int
        Radii that are tried; a node gets the largest that is certified.

    Raises
    ------
    ConfigError
        If the method is unknown, the model is none of the zoo's, changes what those compute, has
        forward hooks, or has no two classes.

    References
    ----------
    Tsuzuku, Sato, Sugiyama, "Lipschitz-Margin Training", NeurIPS 2018, for the margin.
    """
    if method not in METHODS:
        raise ConfigError(f"robustness: no method {method!r}{did_you_mean(method, METHODS)}")
    if not isinstance(model, DeepAttentionNet):
        raise ConfigError(
            f"robustness: needs a model of the zoo, got {type(model).__name__}; for a layer, use "
            "lipzoo.lipschitz.bound"
        )
    fault = network_fault(model)
    if not fault and hooked(model):
        fault = f"{hooked(model)} has forward hooks; remove them, for they may change its output"
    if fault:
        raise ConfigError(f"robustness: {fault}")
    with torch.inference_mode(False), torch.no_grad():
        copied = _prepared(model)
        limit = bound(copied, graph)
        spreads = _Network(copied, graph, feat.detach().to("cpu", torch.float64))
        if spreads.logits.shape[1] < 2:
            raise ConfigError("robustness: needs at least two classes")
        ordered = spreads.logits.topk(2, dim=1)
        predicted, margin = ordered.indices[:, 0], ordered.values[:, 0] - ordered.values[:, 1]
        radius = _global_radius(spreads, limit)
        if method == "local":
            radius = torch.maximum(radius, _local_radius(spreads, radius, points))
    reason = ""
    if not radius.any():
        reason = limit.reason or "no radius could be certified"
    return Robustness(predicted, margin, radius, method, reason)


def _prepared(model: DeepAttentionNet) -> DeepAttentionNet:
    copied = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    for layer in copied.modules():
        if isinstance(layer, AttentionConv):
            layer.backend = "torch"
    return copied


class _Network:
    """A model at given features: its logits, and how radii of the features' rows pass through."""

    def __init__(self, model: DeepAttentionNet, graph, feat: Tensor) -> None:
        self.model = model
        structures = [structure.to("cpu") for structure in model._structures(graph)]
        structure = structures[0]
        if structure.num_src != feat.shape[0] or structure.num_src != structure.num_dst:
            raise DataError(
                f"robustness: needs a whole graph and features of all its nodes; got "
                f"{tuple(feat.shape)} for {structure.num_src} nodes"
            )
        h, first = local_rule(model.input, structure, feat)
        h, bend = local_rule(model.activation, structure, h)
        self.steps: list[list[Spread]] = [[first, bend]]
        states = [h]
        for index, (conv, structure) in enumerate(zip(model.layers, structures)):
            read, degrees = model.residual.input(states), model.degree_roots(structure)
            out, attend = local_rule(conv, structure, read if degrees is None else read / degrees)
            if degrees is not None:
                out = model.times_degrees(conv, out, degrees)
                attend = _between(degrees.squeeze(1), attend)
            out = model.residual.before_activation(out, states)
            behind = []
            if len(model.norms):
                out, spread = local_rule(model.norms[index], structure, out)
                behind.append(spread)
            out, spread = local_rule(model.activation, structure, out)
            self.steps.append([attend, *behind, spread])
            states.append(model.residual.after_activation(out, states))
        self.num_nodes = structure.num_dst
        self.logits = model.head(model.residual.output(states))
        self.differences = self._class_differences()

    def _class_differences(self) -> Tensor:
        """How much faster two logits can part than what the head reads moves, (C, C)."""
        classes = self.logits.shape[1]
        head = self.model.head
        if isinstance(head, nn.Linear):
            weight = head.weight
        else:
            weight = torch.eye(classes, dtype=torch.float64)
        return (weight.unsqueeze(0) - weight.unsqueeze(1)).norm(dim=-1)

    def radii(self, radius: float) -> Tensor:
        """Of what the head reads, (N,), where each row of the features moves by ``radius``."""
        moved = torch.full((self.num_nodes,), radius, dtype=torch.float64)
        first, bend = self.steps[0]
        states = [bend(first(moved))]
        scheme = self.model.residual
        read, join = _STATE_RADII[type(scheme)]
        for attend, *behind in self.steps[1:]:
            states.append(join(scheme, states, attend(read(states)), behind))
        return _output_radii(scheme, states)

    def certified(self, moved: Tensor) -> Tensor:
        """Nodes whose class stays where what the head reads of them moves by ``moved``, (N,)."""
        top, predicted = self.logits.max(1)
        apart = self.differences[predicted] * moved.unsqueeze(1)
        apart = torch.where(self.differences[predicted] == 0, 0.0, apart)
        holds = self.logits + apart < top.unsqueeze(1)
        return holds.scatter(1, predicted.unsqueeze(1), True).all(1)


def _global_radius(network: _Network, limit: Bound) -> Tensor:
    """Margin over Lipschitz constant, from each other class the least."""
    top, predicted = network.logits.max(1)
    margin = top.unsqueeze(1) - network.logits
    slope = network.differences[predicted]
    slope = torch.where(slope == 0, 0.0, slope * limit.features_per_node)
    radius = torch.where(margin > 0, margin / slope, 0.0)
    own = torch.zeros_like(margin, dtype=torch.bool).scatter(1, predicted.unsqueeze(1), True)
    return radius.masked_fill(own, torch.inf).amin(1) * _SLACK


def _local_radius(network: _Network, least: Tensor, points: int) -> Tensor:
    """The largest of some radii that each node is certified at."""
    found = torch.zeros_like(least)

    def try_radius(radius: float) -> Tensor:
        holds = network.certified(network.radii(radius))
        found[holds] = found[holds].clamp_min(radius * _SLACK)
        return holds

    # First whole decades, to see where certificates begin to fail and where the last one does.
    size = 1.0
    everywhere = nowhere = None
    for exponent in range(-16, 7):
        size = 10.0**exponent
        holds = try_radius(size)
        if holds.all():
            everywhere = size
        if not holds.any():
            nowhere = size
            break
    low, high = everywhere or 1e-16, nowhere or size
    for radius in torch.logspace(
        *torch.tensor([low, high]).log10().tolist(), points, dtype=torch.float64
    ).tolist():
        try_radius(radius)
    return found


def _between(degrees: Tensor, attend: Spread) -> Spread:
    """How radii pass where the square roots of the degrees (N,) stand around a layer."""
    return lambda moved: degrees * attend(moved / degrees)


# ------------------------------------------------------------------- residual schemes


def _through(radius: Tensor, behind: list[Spread]) -> Tensor:
    for spread in behind:
        radius = spread(radius)
    return radius


def _last(states: list[Tensor]) -> Tensor:
    return states[-1]


def _together(states: list[Tensor]) -> Tensor:
    return torch.stack(states).norm(dim=0)


def _join_plain(scheme, states, moved, behind):
    return _through(moved, behind)


def _join_residual(scheme, states, moved, behind):
    return _through(moved, behind) + states[-1]


def _join_initial(scheme, states, moved, behind):
    return _through((1 - scheme.initial) * moved + scheme.initial * states[0], behind)


#: How the radii of the states give that of a layer's input, and that of its output the next state.
_STATE_RADII = {
    NoResidual: (_last, _join_plain),
    Residual: (_last, _join_residual),
    InitialResidual: (_last, _join_initial),
    Dense: (_together, _join_plain),
    JumpingKnowledge: (_last, _join_plain),
}


def _output_radii(scheme, states: list[Tensor]) -> Tensor:
    if isinstance(scheme, Dense):
        return _together(states)
    if isinstance(scheme, JumpingKnowledge):
        if scheme.mode == "mean":
            return torch.stack(states[1:]).mean(0)
        return _together(states[1:])
    return states[-1]
