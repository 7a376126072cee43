r"""Score norms: what is applied to the scores just before the edge softmax.

Both norms come from Dasoulas, Scaman, Virmaux, "Lipschitz Normalization for Self-Attention
Layers with Application to Graph Neural Networks", ICML 2021 (arXiv:2103.04886). They hold no
parameters. To write another one, subclass :class:`ScoreNorm` and register its name, as here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lipzoo._names import Registry
from lipzoo.attention.ops import Ops
from lipzoo.attention.scores import AdditiveScores, DotProductScores, GATv2Scores, Scores
from lipzoo.errors import ConfigError, did_you_mean

#: (N, *, H, D) to (N, *, H).
_Rows = Callable[[Tensor], Tensor]

__all__ = [
    "SCORE_NORMS",
    "DotProductLipschitzNorm",
    "LipschitzNorm",
    "ScoreNorm",
    "divide",
    "make_score_norm",
    "power_between",
]


class ScoreNorm(nn.Module):
    """Base class of score norms: ``norm(e, scores, ops) -> e``, all (E, *, H)."""

    #: The score functions whose tensors this norm can read.
    accepts: tuple[type[Scores], ...] = (Scores,)

    def check(self, scores: Scores) -> None:
        if not isinstance(scores, self.accepts):
            wanted = " or ".join(kind.__name__ for kind in self.accepts)
            raise ConfigError(
                f"{type(self).__name__} is for {wanted}; this layer has {type(scores).__name__}"
            )


#: Names that YAML files and ``score_norm=`` accept.
SCORE_NORMS: Registry[ScoreNorm] = Registry("score norm", "score_norm", ScoreNorm)


@SCORE_NORMS.register("lipschitz")
class LipschitzNorm(ScoreNorm):
    r"""LipschitzNorm for additive scores.

    .. math::
        e_{ij} = \alpha \frac{a_l \cdot v_j + a_r \cdot v_i}
        {\lVert [a_l \Vert a_r] \rVert
         \sqrt{\max_{k \in N(i)} \lVert v_k \rVert^2 + \lVert v_j \rVert^2}}

    followed by LeakyReLU and the softmax over N(i). The factor is positive, so it may as well
    be applied after the LeakyReLU, which is what a score hook sees. Where each node has a
    self-loop, :math:`|e_{ij}| \le \alpha`. Where attention leaves out the node itself
    (``AdditiveScores(with_own=True)``), the maximum still runs over :math:`\lVert v_i \rVert^2`
    too, and the same holds.

    For GATv2 scores :math:`a \cdot \mathrm{LeakyReLU}(v_j + t_i)`, the attention vector acts on
    both ends, so :math:`\lVert [a \Vert a] \rVert = \sqrt 2 \lVert a \rVert` takes the place of
    :math:`\lVert [a_l \Vert a_r] \rVert`, and since :math:`t_i` is none of the
    :math:`v_k`, the maximum runs over :math:`\lVert t_i \rVert^2` too. Then
    :math:`|e_{ij}| \le \alpha` on every graph.

    With edge features, :math:`a_e` joins the attention vectors whose norm is taken (GATv2: a third
    :math:`a`), and the root gains :math:`\lVert w_{ij} \rVert^2`: the same holds.

    Parameters
    ----------
    alpha : float
        Largest absolute score, > 0 and finite.
    per_head : bool
        True: each head is divided by the norm of its own attention vectors. False: by the norm
        of the attention vectors of all heads together (the authors' option without ``-si``).

    Notes
    -----
    Where the squared norms under the root are zero (or underflow), the score is 0 and so is its
    gradient.
    """

    accepts = (AdditiveScores, GATv2Scores)

    def __init__(self, alpha: float = 0.25, per_head: bool = True) -> None:
        super().__init__()
        if not 0 < alpha < math.inf:
            raise ConfigError(f"LipschitzNorm: alpha must be > 0 and finite, got {alpha}")
        self.alpha, self.per_head = float(alpha), per_head

    def forward(self, e: Tensor, scores: AdditiveScores | GATv2Scores, ops: Ops) -> Tensor:
        self.check(scores)
        length = _square_length(scores.v_src)
        longest = ops.max_in(length)
        if scores.with_own:
            own = scores.own(ops.structure.num_dst)
            longest = torch.maximum(longest, _square_length(own))
        square = ops.u_add_v(length, longest)
        if scores.edge is not None:
            square = square + _square_length(scores.edge)
        return (self.scale(scores) * _divide_by_root(e, square)).to(e.dtype)

    def scale(self, scores: AdditiveScores | GATv2Scores) -> Tensor:
        r""":math:`\alpha / \lVert [a_l \Vert a_r] \rVert`, (1, H) or a scalar."""
        has_edges = scores.edge is not None
        if isinstance(scores, GATv2Scores):
            vectors = (3 if has_edges else 2) * _square_length(scores.attn)
        else:
            each = _wide(scores.attn_l).square() + _wide(scores.attn_r).square()
            vectors = (each + _wide(scores.attn_edge).square() if has_edges else each).sum(-1)
        if not self.per_head:
            vectors = vectors.sum()
        return _divide_by_root(torch.full_like(vectors, self.alpha), vectors)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, per_head={self.per_head}"


@SCORE_NORMS.register("dot_lipschitz")
class DotProductLipschitzNorm(ScoreNorm):
    r"""LipschitzNorm for dot-product scores.

    .. math::
        e_{ij} = \frac{q_i \cdot k_j / \sqrt D}{\max(uv, uw, vw)}, \quad
        u = \lVert q_i \rVert, \;
        v = \max_{j \in N(i)} \lVert k_j \rVert, \;
        w = \max_{j \in N(i)} \lVert v_j \rVert

    With edge features, the keys are :math:`k_j + w_{ij}`, and with ``edge_values`` the values
    :math:`v_j + w_{ij}`: in the maxima too.

    Parameters
    ----------
    scope : {"node", "graph"}
        "node": as above. "graph": ``u`` is the Frobenius norm of the queries of all edges, as
        in the authors' code. That makes attention all but uniform on a graph of any size; it is
        here to reproduce their figures.

    Notes
    -----
    Where the denominator is zero (or underflows), the score is 0 and so is its gradient. In float16
    the products :math:`q_i \cdot k_j` overflow above 65,504, with the norm as without.
    """

    accepts = (DotProductScores,)

    def __init__(self, scope: str = "node") -> None:
        super().__init__()
        if scope not in ("node", "graph"):
            hint = did_you_mean(scope, ["node", "graph"])
            raise ConfigError(f"DotProductLipschitzNorm: no scope {scope!r}{hint}")
        self.scope = scope

    def forward(self, e: Tensor, scores: DotProductScores, ops: Ops) -> Tensor:
        self.check(scores)
        return divide(e, ops.copy_v(self.divisor(scores, ops))).to(e.dtype)

    def divisor(self, scores: DotProductScores, ops: Ops) -> Tensor:
        r""":math:`\max(uv, uw, vw)`, (N_dst, *, H)."""
        return self._divisor(scores, ops, _square_length)

    def _divisor(self, scores: DotProductScores, ops: Ops, square_length: _Rows) -> Tensor:
        u = square_length(scores.query)
        if self.scope == "graph":
            degree = ops.structure.in_degrees.view(-1, *[1] * (u.dim() - 1)).to(u.dtype)
            u = u.masked_fill(degree == 0, 0)  # infinity times 0 is no number
            total = ops.structure.summed((u * degree).sum(0, keepdim=True))
            u = total.expand_as(u)
        u = _root(u)
        v = _root(_longest_square(scores.key, scores.edge, ops, square_length))
        edge = scores.edge if scores.edge_values else None
        w = _root(_longest_square(scores.value, edge, ops, square_length))
        longer = torch.maximum(v, w)
        u = u.masked_fill(longer == 0, 0)  # infinity times 0 is no number
        return torch.maximum(u * longer, v * w)

    def balanced(self, scores: DotProductScores, ops: Ops) -> tuple[Tensor, Tensor]:
        r"""A query and a key with the scores :math:`q_i \cdot k_j / \sqrt D / \max(uv, uw, vw)`,
        (N_dst, *, H, D) and (N_src, *, H, D): all in-edges of a node share the divisor.

        Its value is a constant beside its derivative, which keeps the numbers in between as small
        as those of :meth:`forward`: the identity :math:`q / m = (q / c)(c / m)` for ``c = m``. A
        power of two goes from the keys to the queries, so that the largest of both are of one
        size: else the gradients of one of them may underflow on their way.
        """
        divisor = self._divisor(scores, ops, _SquareLength.apply).unsqueeze(-1)
        unit = divisor.detach().clamp(max=torch.finfo(divisor.dtype).max)
        queries, keys = _largest(scores.query), _largest(scores.key)
        power = power_between(divide(queries, unit), keys, unit)
        by, one = unit / power, divide(unit, divisor)
        is_nothing = (by < torch.finfo(by.dtype).tiny) | (one == 0)
        by = (by * scores.query.shape[-1] ** 0.5).masked_fill(is_nothing, float("inf"))
        return _Divided.apply(scores.query, by, one), scores.key / power

    def extra_repr(self) -> str:
        return f"scope={self.scope!r}"


def _largest(x: Tensor) -> Tensor:
    """The largest entry of each row, either way, (N, *, H, 1)."""
    x = x.detach()
    return torch.maximum(x.amax(-1, keepdim=True), -x.amin(-1, keepdim=True))


def power_between(queries: Tensor, keys: Tensor, unit: Tensor) -> Tensor:
    """The power of two, (), by which to multiply the queries and divide the keys for both to be
    of one size, from the largest entries of their rows; ``unit`` divided by it stays a number."""
    one = torch.ones((), dtype=unit.dtype, device=unit.device)
    if not (queries.numel() and keys.numel()):
        return one
    sizes = torch.stack([x.max().double() for x in (keys, queries)])
    sizes = torch.where((sizes > 0) & sizes.isfinite(), sizes, 1.0)
    largest = unit.max().double()
    smallest = unit.masked_fill(unit == 0, float("inf")).min().double()  # scores of 0 have none
    low, high = torch.maximum(largest, sizes[0]).log2() - 120, smallest.log2() + 120
    exponent = (sizes[0] / sizes[1]).log2() / 2
    exponent = torch.maximum(torch.minimum(exponent, high), low)
    exponent = torch.where(largest > 0, exponent, 0).nan_to_num(0, 0, 0).clamp(-120, 120)
    return torch.ldexp(one, exponent.round().int())


def _longest_square(x: Tensor, edge: Tensor | None, ops: Ops, square_length: _Rows) -> Tensor:
    """Largest ``||x_j + w_ij||²`` over the in-edges of each node, (N_dst, *, H)."""
    if edge is None:
        return ops.max_in(square_length(x))
    return ops.max_edges(square_length(ops.copy_u(x) + edge))


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.itemsize == 2 else x


def _square_length(x: Tensor) -> Tensor:
    """``||x||²``; of 16 bits in float32, where the longest of several is found and squares are
    numbers, and backward needs ``x`` as it is alone."""
    if x.itemsize > 2:
        return x.square().sum(-1)
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32).square()


# The rows of queries and keys are many numbers: each of these makes few passes over them, forward
# and backward, and its backward pass is differentiable itself.


class _SquareLength(torch.autograd.Function):
    """:func:`_square_length`."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        dtype = torch.float32 if x.itemsize == 2 else None
        return torch.linalg.vector_norm(x, dim=-1, dtype=dtype).square()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (x * (2 * grad).unsqueeze(-1)).to(x.dtype)


class _Divided(torch.autograd.Function):
    """``x / by * one`` of rows (N, *, H, D), where ``one`` (N, *, H, 1) is 1, or ``by`` infinite;
    ``by`` is a constant."""

    @staticmethod
    def forward(ctx, x: Tensor, by: Tensor, one: Tensor) -> Tensor:
        ctx.save_for_backward(x, by, one)
        return (x / by).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        x, by, one = ctx.saved_tensors
        divided = grad / by
        # Not of what was just divided, which may be too large for any number.
        to_one = (grad * (x / by)).sum(-1, keepdim=True)
        if torch.is_grad_enabled():
            divided = divided * one
        return divided.to(x.dtype), None, to_one.to(one.dtype)


# An epsilon after a square root leaves its infinite slope at 0, which times 0 is NaN in the
# backward pass. Here the zero (or underflowing) entries are replaced before the operation and
# masked after it: value and gradient are exactly 0, at any order of differentiation.


def _root(square: Tensor) -> Tensor:
    tiny = square < torch.finfo(square.dtype).tiny
    return square.masked_fill(tiny, 1).sqrt().masked_fill(tiny, 0)


def divide(e: Tensor, by: Tensor) -> Tensor:
    """``e / by``, and 0 where ``by`` is zero or underflows."""
    tiny = by < torch.finfo(by.dtype).tiny
    return (e / by.masked_fill(tiny, 1)).masked_fill(tiny, 0)


def _divide_by_root(e: Tensor, square: Tensor) -> Tensor:
    tiny = square < torch.finfo(square.dtype).tiny
    return (e / square.masked_fill(tiny, 1).sqrt()).masked_fill(tiny, 0)


def make_score_norm(spec: str | Mapping | ScoreNorm | None) -> ScoreNorm | None:
    """A score norm from a name, ``{"name": …, **arguments}``, a score norm, or ``None``.

    Raises
    ------
    ConfigError
        If the name or an argument is unknown.
    """
    return None if spec is None else SCORE_NORMS.make(spec)
