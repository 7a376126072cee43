r"""How far features may move before a predicted class can change: certified radii.

The perturbations are :math:`\lVert x_i' - x_i \rVert \le r` for **every** node i at once, so all
of :math:`\lVert X' - X \rVert_F \le r` too. The graph and the weights stay.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from lipzoo._edges import check_tensors
from lipzoo._figures import save_figure
from lipzoo.attention import Structure, as_structure
from lipzoo.errors import ConfigError, DataError, did_you_mean
from lipzoo.lipschitz.local import local_rule
from lipzoo.lipschitz.modules import hooked, overridden
from lipzoo.lipschitz.network import Bound, bound, network_fault, scheme_fault
from lipzoo.lipschitz.outward import beyond, longest
from lipzoo.lipschitz.rounding import down, gamma, up
from lipzoo.lipschitz.state_radii import StateRadii, Step
from lipzoo.models import DeepAttentionNet
from lipzoo.nn import AttentionConv
from lipzoo.plots.certified import certified_shares

__all__ = ["Robustness", "robustness"]

METHODS = ("local", "global")


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
        save_figure(certified_shares({"certified": self.curve(mask)}).figure, path)

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
    graph : DGLGraph, Structure or any other graph
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
        If the method is unknown, the model is none of the zoo's, changes what those compute, reads
        edge features, has forward hooks, or has no two classes.

    References
    ----------
    Tsuzuku, Sato, Sugiyama, "Lipschitz-Margin Training", NeurIPS 2018, for the margin.
    """
    if method not in METHODS:
        raise ConfigError(f"robustness: no method {method!r}{did_you_mean(method, METHODS)}")
    if not isinstance(model, DeepAttentionNet):
        raise ConfigError(
            f"robustness: needs a model of the zoo that reads features, got "
            f"{type(model).__name__}; for a layer, use "
            "lipzoo.lipschitz.bound"
        )
    fault = network_fault(model) or _edge_fault(model) or _head_fault(model) or scheme_fault(model)
    if not fault and hooked(model):
        fault = f"{hooked(model)} has forward hooks; remove them, for they may change its output"
    if fault:
        raise ConfigError(f"robustness: {fault}")
    with torch.inference_mode(False), torch.no_grad():
        copied = _prepared(model)
        # An edge_index names no node behind its last edge, and each counts in the bound.
        graph = as_structure(graph, feat=feat)
        limit = bound(copied, graph)
        network = _Network(copied, graph, _dense(feat, copied.input))
        if network.logits.shape[1] < 2:
            raise ConfigError("robustness: needs at least two classes")
        radius = _certified(network, limit, method, points)
        margin = network.margins.scatter(1, network.predicted.unsqueeze(1), torch.inf).amin(1)
    lost = int((~network.logits.isfinite().all(1)).sum())
    reason = f"{lost} nodes have logits that are not finite" if lost else ""
    if not radius.any():
        reason = reason or limit.reason or "no radius could be certified"
    return Robustness(network.predicted, margin, radius, method, reason)


def _edge_fault(model: DeepAttentionNet) -> str:
    if not model.edge_feats:
        return ""
    return (
        "no radii are derived for a model that reads edge features (how their products round is "
        "not covered); its bound, lipzoo.lipschitz.bound, holds"
    )


def _head_fault(model: DeepAttentionNet) -> str:
    head = model.head
    is_linear = isinstance(head, nn.Linear) and not overridden(type(head), nn.Linear)
    if is_linear or type(head) is nn.Identity:
        return ""
    return f"the head is a {type(head).__name__}; certificates are for a linear one, or for none"


def _dense(feat: Tensor, reader: nn.Module) -> Tensor:
    """Exactly the same numbers; in 64 bits, where they are not read by a linear map."""
    check_tensors(feat)
    feat = feat.detach().to("cpu")
    feat = feat if feat.layout is torch.strided else feat.to_dense()
    return feat if isinstance(reader, nn.Linear) else feat.to(torch.float64)


def _prepared(model: DeepAttentionNet) -> DeepAttentionNet:
    copied = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    for layer in copied.modules():
        if isinstance(layer, AttentionConv):
            layer.backend = "torch"
    return copied


class _Network:
    """A model at given features: its logits, and how radii of the features' rows pass through.

    Radii are (2, N): how far from what was computed the exact and the float64 value can be, and
    how far these two can be from each other.
    """

    def __init__(self, model: DeepAttentionNet, graph, feat: Tensor) -> None:
        self.model = model
        structures = [structure.to("cpu") for structure in model.structures(graph, feat)]
        structure = structures[0]
        if structure.num_src != feat.shape[0] or structure.num_src != structure.num_dst:
            raise DataError(
                f"robustness: needs a whole graph and features of all its nodes; got "
                f"{tuple(feat.shape)} for {structure.num_src} nodes"
            )
        self.num_nodes = structure.num_dst
        scheme = model.residual
        #: How radii pass through each module, and how long its computed output is.
        self.steps: list[tuple[Step, Tensor]] = []
        states = [self._through([model.input, model.first_activation], structure, feat)]
        for index, (conv, structure) in enumerate(zip(model.layers, structures)):
            parts = [*([model.norms[index]] if len(model.norms) else []), model.activation]
            states.append(
                scheme.next_state(
                    states,
                    partial(self._through, [conv], structure),
                    partial(self._through, parts, structure),
                )
            )
        self._read_head(scheme.output(states))

    def _through(self, modules: list[nn.Module], structure: Structure, feat: Tensor) -> Tensor:
        """What modules in a row compute; how radii pass is kept."""
        for module in modules:
            feat, step = local_rule(module, structure, feat)
            self.steps.append((step, longest(feat)))
        return feat

    def _read_head(self, feat: Tensor) -> None:
        head = self.model.head
        self.logits = head(feat)
        #: No less than the length of what the head reads, (N,), and each class's weight and bias.
        self.feat_size = longest(feat)
        self.is_linear = isinstance(head, nn.Linear)
        weight = head.weight if self.is_linear else torch.eye(feat.shape[1], dtype=torch.float64)
        self.weight_size = longest(weight)
        has_bias = self.is_linear and head.bias is not None
        self.bias_size = head.bias.abs() if has_bias else torch.zeros(len(weight)).double()
        #: How much faster two logits can part than what the head reads moves, (C, C).
        self.differences = longest(weight.unsqueeze(0) - weight.unsqueeze(1))
        finite = self.logits.nan_to_num(nan=-torch.inf)
        self.predicted = finite.argmax(1)
        own = finite.gather(1, self.predicted.unsqueeze(1))
        #: No more than the margins over each class, (N, C); NaN where a logit is none.
        self.margins = own - self.logits
        self.margins = torch.where(self.margins > 0, down(self.margins), self.margins)

    def radii(self, radius: float) -> Tensor:
        """Of what the head reads, (2, N), where each row of the features moves by ``radius``."""
        moved = torch.full((self.num_nodes,), radius, dtype=torch.float64)
        steps, scheme = iter(self.steps), self.model.residual

        def through(count: int, state: StateRadii) -> StateRadii:
            for step, size in islice(steps, count):
                state = state.through(step, size)
            return state

        given = StateRadii(torch.stack([moved, torch.zeros_like(moved)]), torch.zeros_like(moved))
        states = [through(2, given)]
        behind = 2 if len(self.model.norms) else 1
        for _ in self.model.layers:
            states.append(scheme.next_state(states, partial(through, 1), partial(through, behind)))
        return scheme.output(states).radii

    def needed(self, moved: Tensor, radius: Tensor) -> Tensor:
        """Margins over each class, (N, C), above which none is lost where what the head reads
        moves by ``moved`` and lies within ``radius`` of what was computed."""
        slope = self.differences[self.predicted]
        apart = torch.where(slope == 0, 0.0, slope * moved.unsqueeze(1))
        if not self.is_linear:
            return up(apart, 2)
        reach = (self.feat_size + radius).unsqueeze(1) * self.weight_size + self.bias_size
        error = gamma(self.model.head.in_features + 2) * reach + beyond(reach)
        # Of both logits, at the given features and at the moved ones.
        own = error.gather(1, self.predicted.unsqueeze(1))
        return up(apart + 2 * (error + own), 8)

    def keeps(self, holds: Tensor) -> Tensor:
        """Where something holds for each class but the predicted one, (N, C) -> (N,)."""
        return holds.scatter(1, self.predicted.unsqueeze(1), True).all(1)


def _certified(network: _Network, limit: Bound, method: str, points: int) -> Tensor:
    """The largest radius that each node is certified at."""
    found = torch.zeros(network.num_nodes, dtype=torch.float64)
    slope = network.differences[network.predicted]
    slope = torch.where(slope == 0, 0.0, up(slope * limit.features_per_node))
    # In exact arithmetic the computed features are off too.
    still = network.radii(0.0)[1]

    def try_radius(radius: float) -> Tensor:
        moved, error = network.radii(radius)
        # Margin over Lipschitz constant, from each other class the least. float64 parts from
        # the exact model at the given and at the moved features.
        spare = network.margins - network.needed(up(still + error), moved)
        spare = torch.where(spare > 0, down(spare), 0.0).nan_to_num(nan=0.0)
        by_bound = torch.where(spare > 0, down(spare / slope), 0.0)
        by_bound = by_bound.scatter(1, network.predicted.unsqueeze(1), torch.inf)
        by_bound = by_bound.nan_to_num(nan=0.0, posinf=torch.inf).amin(1)
        found.copy_(torch.maximum(found, by_bound.clamp_max(radius)))
        holds = network.keeps(network.margins > network.needed(moved, moved))
        if method == "local":
            found[holds] = found[holds].clamp_min(radius)
        return holds if method == "local" else by_bound >= radius

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
    if method == "local":
        low, high = everywhere or 1e-16, nowhere or size
        for radius in torch.logspace(
            *torch.tensor([low, high]).log10().tolist(), points, dtype=torch.float64
        ).tolist():
            try_radius(radius)
    return found
