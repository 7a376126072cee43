"""The Lipschitz bound of a layer or a whole network, with the factor of each of its parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import Tensor, nn

from lipzoo._json import plain
from lipzoo.attention import Structure, as_structure
from lipzoo.errors import DataError
from lipzoo.lipschitz.constant import ONE, Constant, infinite
from lipzoo.lipschitz.modules import constant_of, hooked, overridden, unread
from lipzoo.lipschitz.rounding import div_up, sqrt_up
from lipzoo.models import DeepAttentionNet
from lipzoo.nn import AttentionConv, BatchNorm, GATConv, LayerNorm
from lipzoo.nn.multihead import LipschitzMultiheadAttention
from lipzoo.nn.residual import ResidualScheme

__all__ = ["Bound", "LayerBound", "bound", "network_fault"]


@dataclass(frozen=True)
class LayerBound:
    """A row of the table.

    Parameters
    ----------
    name : str
        ``input``, ``layer_1`` …, ``head``, as in ``model.layer_groups()``.
    what : str
        The modules it holds.
    frobenius, per_node : float
        Of this part alone, without what the residual scheme adds.
    up_to_frobenius, up_to_per_node : float
        From the features to here.
    reason : str
        Why it is infinite.
    """

    name: str
    what: str
    frobenius: float
    per_node: float
    up_to_frobenius: float
    up_to_per_node: float
    reason: str = ""


@dataclass(frozen=True)
class Bound:
    r"""A proven upper bound on a Lipschitz constant; ``float(bound)`` is ``frobenius``.

    Parameters
    ----------
    frobenius : float
        :math:`\lVert f(X) - f(Y) \rVert_F \le L \lVert X - Y \rVert_F`.
    per_node : float
        The same for :math:`\max_i \lVert x_i \rVert`: however many nodes move.
    layers : tuple of LayerBound
        The factors.
    features_per_node : float
        ``per_node`` of what the head reads, ``model.forward_features``.
    reason : str
        Why it is infinite; empty where it is not.
    """

    frobenius: float
    per_node: float
    layers: tuple[LayerBound, ...]
    features_per_node: float
    reason: str = ""

    def __float__(self) -> float:
        return self.frobenius

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.frobenius)

    def to_dict(self) -> dict:
        """Plain values; infinite ones as ``None``, for JSON has no infinity."""
        return plain(asdict(self))

    def to_card(self) -> dict:
        """What a card says about it; an infinite bound is left out, its reason is not."""
        content: dict = {}
        if self.is_finite:
            content = {"bound": self.frobenius, "bound_per_node": self.per_node}
        return {**content, **({"reason": self.reason} if self.reason else {})}

    def table(self) -> str:
        """The layers, one a line, and the whole."""
        head = ("", "alone", "per node", "up to here", "per node", "")
        rows = [
            (
                layer.name,
                *map(_number, (layer.frobenius, layer.per_node)),
                *map(_number, (layer.up_to_frobenius, layer.up_to_per_node)),
                layer.reason or layer.what,
            )
            for layer in self.layers
        ]
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(5)]
        lines = []
        for name, *cells, last in (head, *rows):
            numbers = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths[1:]))
            lines.append(f"{name.ljust(widths[0])}  {numbers}  {last}".rstrip())
        whole = f"Lipschitz bound {_number(self.frobenius)}, per node {_number(self.per_node)}"
        return "\n".join([*lines, whole + (f": {self.reason}" if self.reason else "")])

    def __str__(self) -> str:
        return self.table()


def _number(value: float) -> str:
    return f"{value:.4g}"


def bound(
    module: nn.Module, graph, heads: str = "concat", edge_weight: Tensor | None = None
) -> Bound:
    r"""A proven upper bound on the Lipschitz constant, from weights and structure alone.

    Of the module in exact arithmetic, with the parameters it holds; each step that computes the
    bound is rounded up.

    For one GAT layer with LipschitzNorm, per head (docs/lipschitz.md has all cases and proofs):

    .. math::
        L \le \lVert W \rVert_2 \Big( \lVert P \rVert + \alpha \big(
        \sqrt{1 - \rho^2/2} \min(\sqrt2 \lVert P \odot (1 - P) \rVert, \sqrt c)
        + \rho / \sqrt2 + \sqrt{\kappa / 3} \big) \Big), \quad
        \rho = \frac{\lVert a_r \rVert}{\lVert [a_l \Vert a_r] \rVert}

    Parameters
    ----------
    module : torch.nn.Module
        A model of the zoo, an attention layer, or any module that
        :func:`~lipzoo.lipschitz.register_bound` knows, in evaluation mode.
    graph : DGLGraph, Structure, any other graph, list of blocks, or int
        What the module is applied to; a model adds its self-loops. Edge features stay, and may be
        any. An ``edge_index`` alone names no node behind its last edge: where there are some, pass
        ``as_structure(edge_index, feat=feat)``. A number of tokens for a
        :class:`~lipzoo.nn.LipschitzMultiheadAttention` without masks.
    heads : {"concat", "mean"}
        How the heads of a single layer are joined.
    edge_weight : Tensor (E,), optional
        What is passed to :meth:`GATConv.forward <lipzoo.nn.GATConv>`. Without it the bound is for
        calls without edge weights, which multiply what attention hands over: its part of the
        bound grows by the largest absolute one.

    Returns
    -------
    Bound
        Infinite, with the reason, where none exists or none is known.

    Raises
    ------
    DataError
        If the graph or the edge weights do not fit the module.

    References
    ----------
    Dasoulas, Scaman, Virmaux, ICML 2021, theorem 1, made explicit and tightened.
    """
    part = hooked(module)
    if part:
        why = "forward hooks, or a forward of its own, which may change what it puts out"
        return _bound([], infinite(f"{part} has {why}"))
    if isinstance(module, DeepAttentionNet) and edge_weight is None:
        return _network(module, graph)
    if heads not in ("concat", "mean"):
        raise DataError(f"heads: must be 'concat' or 'mean', got {heads!r}")
    if isinstance(graph, int) and not isinstance(module, LipschitzMultiheadAttention):
        raise DataError(f"{type(module).__name__}: needs a graph, got the number {graph}")
    structure = graph if isinstance(graph, int) else as_structure(graph).to("cpu")
    options = {} if edge_weight is None else {"largest_weight": _largest(module, edge_weight)}
    constant = constant_of(module, structure, **options)
    if getattr(module, "degree_norm", "none") != "none" and structure.num_dst:
        constant = constant.scaled(degree_stretch(module.attended(structure)))
    if heads == "mean":
        if not isinstance(module, AttentionConv):
            raise DataError(f"heads: {type(module).__name__} has no heads to take the mean of")
        # The mean of H vectors is 1 / sqrt(H) times as long as they are side by side.
        constant = constant.scaled(sqrt_up(div_up(1.0, module.num_heads)))
    name = type(module).__name__
    return _bound([_row(name, name, constant, constant)], constant)


def _largest(module: nn.Module, edge_weight: Tensor) -> float:
    """Of the absolute edge weights."""
    if not isinstance(module, GATConv):
        raise DataError(f"edge_weight: {type(module).__name__} takes none; GATConv does")
    if not edge_weight.isfinite().all():
        raise DataError("edge_weight: holds NaN or infinity")
    return edge_weight.detach().abs().max().item() if edge_weight.numel() else 0.0


def network_fault(model: DeepAttentionNet) -> str:
    """Why nothing is known about a model as a whole; empty where its parts tell all."""
    changed = overridden(type(model), DeepAttentionNet, _OPEN)
    if changed:
        return f"{type(model).__name__} has a {changed[0]} of its own"
    if model.start_logits:
        return "its features hold logits that were made of labels, and are added to its own"
    return unread(model, _PARTS)


#: Feature norms, in evaluation mode, whose output for a node depends on that node alone.
_NODE_BY_NODE = (BatchNorm, LayerNorm)

#: What is bounded by itself, or by what it does to bounds.
_PARTS = ("input", "layers", "norms", "activation", "input_activation", "residual", "head")

#: What an architecture may define anew.
_OPEN = {
    "conv_class",
    "forward_intermediates",
    "layer_groups",
    "reset_classifier",
    "reset_input",
}


def _network(model: DeepAttentionNet, graph) -> Bound:
    fault = network_fault(model)
    if fault:
        return _bound([], infinite(fault))
    structures = [structure.to("cpu") for structure in model.structures(graph)]
    num_in, num_out = structures[0].num_src, structures[-1].num_dst
    bent = constant_of(model.first_activation, structures[0])
    first = constant_of(model.input, structures[0]).then(bent)
    states = [first]
    what = f"{_name(model.input)}, {_name(model.first_activation)}"
    rows = [_row("input", what, first, first)]
    # In the norm of D^{-1/2} X the degrees around a layer cancel, and what treats each node by
    # itself keeps its constant: they count once, between that norm and the plain one.
    stretch = 1.0
    if model.degree_norm != "none" and num_in:
        stretch = degree_stretch(structures[0])
        states = [first.scaled(stretch)]
        rows.append(_row("degrees", "degree_norm", ONE.scaled(stretch), states[0]))
    for index, (conv, structure) in enumerate(zip(model.layers, structures)):
        alone, behind = constant_of(conv, structure), ONE
        parts = [*([model.norms[index]] if len(model.norms) else []), model.activation]
        for part in parts:
            constant = constant_of(part, structure)
            by_itself = part is model.activation or isinstance(part, _NODE_BY_NODE)
            behind = behind.then(constant if by_itself else constant.scaled(stretch))
        through = [lambda s, c=constant: s.then(c) for constant in (alone, behind)]
        state = _joined(model.residual, "next_state", states, *through)
        states.append(_named(state.with_nodes(num_in, structure.num_dst), f"layer {index + 1}"))
        names = ", ".join(map(_name, [conv, *parts]))
        rows.append(_row(f"layer_{index + 1}", names, alone.then(behind), states[-1]))
    features = whole = _joined(model.residual, "output", states).with_nodes(num_in, num_out)
    if type(model.head) is not nn.Identity:
        head = constant_of(model.head, structures[-1])
        whole = whole.then(head).with_nodes(num_in, num_out)
        rows.append(_row("head", _name(model.head), head, whole))
    return _bound(rows, whole, features.per_node)


def _joined(
    scheme: ResidualScheme, method: str, states: list[Constant], *through: Callable
) -> Constant:
    """What a method of a residual scheme makes of constants in place of features."""
    if states[-1].reason:
        return infinite(states[-1].reason)
    try:
        found = getattr(scheme, method)(states, *through)
    except Exception as fault:  # it does something to a state that only features can bear
        return infinite(not_joined(scheme, fault))
    return found if isinstance(found, Constant) else infinite(not_joined(scheme, found))


def scheme_fault(model: DeepAttentionNet) -> str:
    """Why nothing is known about how a model joins its states; empty where it is known."""
    scheme, states = model.residual, [ONE]
    for _ in model.layers:
        states.append(_joined(scheme, "next_state", states, lambda s: s, lambda s: s))
    return _joined(scheme, "output", states).reason


def not_joined(scheme: ResidualScheme, fault: object) -> str:
    """Why nothing is known about a residual scheme."""
    words = " ".join(str(fault).split())
    return (
        f"nothing is known about the residual scheme {type(scheme).__name__} ({words}): its bound "
        "follows where it joins states with + and the functions of lipzoo.nn.residual alone"
    )


def degree_stretch(structure: Structure) -> float:
    """How much longer rows can get between the degrees of a layer with ``degree_norm``."""
    degrees = structure.parent_degrees
    degrees = (structure.in_degrees if degrees is None else degrees).clamp_min(1)
    return sqrt_up(div_up(degrees[: structure.num_dst].max().item(), degrees.min().item()))


def _named(state: Constant, place: str) -> Constant:
    if state.reason and not state.reason.startswith("layer "):
        return Constant(state.frobenius, state.per_node, f"{place}: {state.reason}")
    return state


def _bound(rows: list[LayerBound], whole: Constant, features_per_node: float | None = None):
    if math.isnan(whole.frobenius) or math.isnan(whole.per_node):
        whole = infinite(whole.reason or "a factor is not a number")
    reason = whole.reason
    if not reason and not whole.is_finite:
        reason = "the product of the factors is larger than a float can hold"
    features = whole.per_node if features_per_node is None else features_per_node
    return Bound(whole.frobenius, whole.per_node, tuple(rows), features, reason)


def _row(name: str, what: str, alone: Constant, so_far: Constant) -> LayerBound:
    return LayerBound(
        name,
        what,
        alone.frobenius,
        alone.per_node,
        so_far.frobenius,
        so_far.per_node,
        alone.reason,
    )


def _name(module: nn.Module) -> str:
    norm = getattr(module, "score_norm", None)
    return type(module).__name__ + (f" + {type(norm).__name__}" if norm is not None else "")
