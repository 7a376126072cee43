"""Random attention, computed by the fused kernels and by the torch backend: which is further off?

A case is a function of its number. Its output and gradients in float32 (or float64) are held
against the torch backend in float64, and so is the torch backend in the case's own dtype, several
times: as it is, then with the features of a head in other orders and all numbers moved by a last
bit. That is what rounding does to anybody. The kernels may be four times as far off, and a little
more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lipzoo.attention import (
    AdditiveScores,
    DotProductLipschitzNorm,
    DotProductScores,
    GATv2Scores,
    LipschitzNorm,
    Structure,
    graph_attention,
)
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.ops import TorchOps

__all__ = ["Case", "Verdict", "draw", "errors", "second_derivatives"]

#: Heads and features; each is compiled, so there are few.
SHAPES = [*[(2, 3)] * 8, (1, 5), (8, 8)]
#: A relative error up to so many times the torch backend's, and a little more, is no fault. What a
#: result in float64 is compared with has rounding errors as large as its own.
FACTOR = {torch.float32: 4, torch.float64: 16}
FLOOR = {torch.float32: 1e-5, torch.float64: 1e-11}
#: Where the torch backend is as far off as this in one result (its squares underflow, say), what it
#: computes is something else, and need not be matched, but in being finite.
LOST = 0.1
#: How often the torch backend computes.
TURNS = 5


@dataclass
class Case:
    """Leaves and options of one call; ``v_dst`` is absent where it is the first rows of ``v``."""

    scores: str
    structure: Structure
    leaves: dict[str, Tensor]
    readout: Tensor
    norm: dict | None
    slope: float
    rate: float
    dtype: torch.dtype
    seed: int
    about: str = ""

    def build(self, leaves: dict[str, Tensor]):
        """``(scores, norm)`` of these leaves."""
        v = leaves["v"]
        if self.scores == "additive":
            v_dst = leaves.get("v_dst")
            attn = leaves["attn_l"], leaves["attn_r"]
            scores = AdditiveScores(v, v_dst, *attn, self.slope, with_own=self.seed % 5 == 0)
        elif self.scores == "gatv2":
            scores = GATv2Scores(v, leaves["t"], leaves["attn"], self.slope)
        else:
            scores = DotProductScores(leaves["q"], leaves["k"], v)
        kind = DotProductLipschitzNorm if self.scores == "dot" else LipschitzNorm
        return scores, None if self.norm is None else kind(**self.norm)

    def output(self, leaves: dict[str, Tensor], backend: str) -> Tensor:
        """By the kernels, or by the torch backend with their dropout mask."""
        torch.manual_seed(self.seed)
        scores, norm = self.build(leaves)
        if backend == "fused":
            options = {"score_norm": norm, "attn_drop": self.rate, "backend": "fused"}
            return graph_attention(self.structure, scores, **options)[0]
        ops = TorchOps(self.structure)
        e = scores.compute(ops)
        weights = ops.edge_softmax(e if norm is None else norm(e, scores, ops))
        dropout = DropoutMask.draw(self.rate)
        mask = dropout.mask(*weights.shape, weights.device)
        if mask is not None:
            weights = weights * mask / dropout.kept
        return ops.u_mul_e_sum(scores.value, weights)

    def own(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The leaves, to be differentiated by."""
        return {key: x.detach().to(dtype).requires_grad_() for key, x in self.leaves.items()}

    def derivatives(self, backend: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """The output, and the gradients of its product with the readout."""
        leaves = self.own(dtype)
        out = self.output(leaves, backend)
        gradients = torch.autograd.grad(
            out, list(leaves.values()), self.readout.to(dtype), materialize_grads=True
        )
        return {"out": out.detach(), **dict(zip(leaves, gradients))}

    def rounded_anew(self, random: torch.Generator) -> tuple[Case, Tensor]:
        """With the features of each head in another order, which puts them back when used as an
        index, and all numbers moved by a last bit or not at all."""
        order = torch.randperm(self.readout.shape[-1], generator=random)

        def moved(x: Tensor) -> Tensor:
            bits = torch.randint(-1, 2, x.shape, generator=random)
            return (x * (1 + bits.to(x.dtype) * torch.finfo(x.dtype).eps))[..., order]

        leaves = {key: moved(x) for key, x in self.leaves.items()}
        readout = self.readout[..., order]
        return replace(self, leaves=leaves, readout=readout), order.argsort()

    def sizes(self) -> dict[str, float]:
        """How large a gradient is before its terms cancel: that much rounding is no fault.

        ``|g| |v| |e| / |x|`` for the gradient by ``x``, where several edges share the weight. Where
        one has it all, nothing cancels, however large the scores: there ``|e|`` counts as 1.
        """
        leaves = {key: x.detach().double() for key, x in self.leaves.items()}
        scores, norm = self.build(leaves)
        ops = TorchOps(self.structure)
        e = scores.compute(ops)
        e = e if norm is None else norm(e, scores, ops)
        weights = ops.edge_softmax(e)
        shared = (e.abs() * (1 - weights)).max() if e.numel() else 0.0
        moved = self.readout.abs().max() * leaves["v"].abs().max() / (1 - self.rate)
        rows = {key: x.abs().amax((1, 2)) for key, x in leaves.items()}
        if norm is not None and "attn_r" in rows:  # divided by the length of both
            rows["attn_l"] = rows["attn_r"] = torch.maximum(rows["attn_l"], rows["attn_r"])
        # The shortest row has the largest gradient.
        lengths = {key: x[x > 0].min() if (x > 0).any() else x.max() + 1 for key, x in rows.items()}
        by = {key: e.abs().max().clamp(max=1) / length for key, length in lengths.items()}
        if self.scores == "dot" and norm is None:  # linear in each, also where the other is 0
            for key, other in (("k", "q"), ("q", "k")):
                by[key] = torch.minimum(1 / lengths[key], rows[other].max())
        sizes = {key: max(by[key], shared / length) for key, length in lengths.items()}
        return {"out": 0.0, **{key: float(moved * size) for key, size in sizes.items()}}


@dataclass
class Verdict:
    """The errors of one result, relative to its largest entry; ``usual`` is the torch backend's."""

    result: str
    error: float
    usual: float
    allowed: float

    @property
    def is_fault(self) -> bool:
        return not self.error <= self.allowed


def errors(case: Case) -> list[Verdict]:
    """What the kernels make of the output and of each gradient, where the torch backend leaves all
    of them finite."""
    exact = case.derivatives("torch", torch.float64)
    ours = case.derivatives("fused", case.dtype)
    generator = torch.Generator().manual_seed(case.seed)
    theirs = [case.derivatives("torch", case.dtype)]
    for _ in range(1, TURNS):
        other, back = case.rounded_anew(generator)
        there = other.derivatives("torch", case.dtype)
        theirs.append({key: x[..., back] for key, x in there.items()})
    if not all(x.isfinite().all() for each in (exact, *theirs) for x in each.values()):
        return []
    sizes, found = case.sizes(), {}
    for key, right in exact.items():
        size = max(right.abs().max().item() if right.numel() else 0.0, sizes[key], 1e-300)

        def off(x, right=right, size=size):
            return (x.double() - right).abs().max().item() / size if right.numel() else 0.0

        # Where it, or what cancels in it, is too large for the dtype, there is nothing to match.
        exists = size < torch.finfo(case.dtype).max
        is_finite = ours[key].isfinite().all()
        error = off(ours[key]) if is_finite else float("inf") if exists else 0.0
        found[key] = error, max(off(each[key]) for each in theirs)
    factor = FACTOR[case.dtype]
    is_lost = any(usual >= LOST for _, usual in found.values())
    return [
        Verdict(key, error, usual, 1e300 if is_lost else factor * usual + FLOOR[case.dtype])
        for key, (error, usual) in found.items()
    ]


def second_derivatives(case: Case) -> list[Verdict]:
    """The gradients of the squares of gradients, in float64: of a sum, so that no gradient that
    comes in needs one, and of squares."""
    generator = torch.Generator().manual_seed(case.seed)
    other, back = case.rounded_anew(generator)
    right, again, ours = (
        [*_second(which, backend, False), *_second(which, backend, True)]
        for which, backend in ((case, "torch"), (other, "torch"), (case, "fused"))
    )
    names = [f"second {how} {key}" for how in ("sum", "squares") for key in case.leaves]
    largest = max(x.abs().max().item() for x in right)
    verdicts = []
    for name, exact, moved, found in zip(names, right, again, ours, strict=True):
        # All leaves are about 1 here: what is far below that has cancelled.
        size = max(exact.abs().max().item(), 1e-3 * largest, 1e-3)
        error, usual = ((x - exact).abs().max().item() / size for x in (found, moved[..., back]))
        verdicts.append(Verdict(name, error, usual, FACTOR[torch.float64] * usual + 1e-8))
    return verdicts


def _second(case: Case, backend: str, is_squared: bool) -> list[Tensor]:
    leaves = case.own(torch.float64)
    inputs = list(leaves.values())
    out = case.output(leaves, backend)
    value = (out.square() if is_squared else out) * case.readout
    first = torch.autograd.grad(value.sum(), inputs, create_graph=True, materialize_grads=True)
    total = sum(g.square().sum() for g in first)
    return torch.autograd.grad(total, inputs, materialize_grads=True, allow_unused=True)


# --- Drawing -------------------------------------------------------------------------------------


def draw(number: int, is_tame: bool = False) -> Case:
    """The case of this number; a tame one has scores that a second derivative can be taken of."""
    random = torch.Generator().manual_seed(number)

    def uniform(low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * torch.rand((), generator=random).item()

    def choose(options):
        return options[int(torch.randint(len(options), (), generator=random))]

    kind = choose(["additive", "gatv2", "dot"])
    heads, width = choose(SHAPES)
    graph, structure = _graph(choose, random)
    dtype = torch.float64 if is_tame or uniform() < 0.2 else torch.float32
    is_scaled = not is_tame

    def size() -> float:
        if not is_scaled or uniform() < 0.3:
            return 1.0
        return 10 ** (uniform(-3, 6) if uniform() < 0.6 else uniform(-30, 30))

    size_of_all, together = size(), uniform() < 0.5

    def rows(count: int, by: float) -> Tensor:
        x = torch.randn(count, heads, width, generator=random, dtype=torch.float64) * by
        if count > 1 and is_scaled and uniform() < 0.2:
            x[int(uniform(0, count))] *= 10 ** uniform(-30, 30)
        if uniform() < 0.1:
            x[torch.rand(count, generator=random) < 0.3] = 0
        return x.to(dtype)

    def nodes(count: int) -> Tensor:
        return rows(count, size_of_all if together else size())

    src, dst = structure.num_src, structure.num_dst
    leaves = {"v": nodes(src)}
    if kind == "additive":
        if uniform() < 0.3:
            leaves["v_dst"] = nodes(dst)
        leaves |= {"attn_l": rows(1, by := size()), "attn_r": rows(1, by)}
    elif kind == "gatv2":
        leaves |= {"t": nodes(dst), "attn": rows(1, size())}
    else:
        leaves |= {"k": nodes(src), "q": nodes(dst)}
    norm = None
    if uniform() < 0.5:
        norm = {"alpha": choose([0.25, 1.0, 30.0, 1e3]), "per_head": choose([True, False])}
        norm = {"scope": choose(["node", "graph"])} if kind == "dot" else norm
    if is_tame and norm and "alpha" in norm:
        norm["alpha"] = min(norm["alpha"], 3.0)
    about = f"{kind}{'_norm' if norm else ''} {str(dtype)[6:]} {graph}"
    return Case(
        kind,
        structure,
        leaves,
        torch.randn(dst, heads, width, generator=random, dtype=torch.float64),
        norm,
        choose([0.0, 0.2, 0.2, 1.0, round(uniform(), 3)]),
        choose([0.0, 0.0, 0.1, 0.5, 0.9]),
        dtype,
        number,
        about,
    )


def _graph(choose, random) -> tuple[str, Structure]:
    """A small graph: nodes without in-edges, edges that are there several times, hubs."""
    name = choose(["sparse", "dense", "multiple", "loops", "hub", "block", "one"])
    count = choose([2, 3, 5, 9])
    src, dst = torch.randint(count, (2, count), generator=random)
    if name == "dense":
        src, dst = torch.randint(count, (2, 5 * count), generator=random)
    elif name == "multiple":
        src, dst = src.repeat(3), dst.repeat(3)
    elif name == "loops":
        src, dst = torch.cat([src, torch.arange(count)]), torch.cat([dst, torch.arange(count)])
    elif name == "hub":
        src, dst = torch.randint(count, (300,), generator=random), torch.zeros(300).long()
    elif name == "one":
        count, src, dst = 1, torch.zeros(1).long(), torch.zeros(1).long()
    num_dst = count
    if name == "block":
        num_dst = max(1, count // 2)
        dst = dst % num_dst
    return name, Structure(src, dst, count, num_dst)
