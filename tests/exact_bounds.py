"""Bounds of single layers in 40 digits, from the formulas of docs/lipschitz.md: what the ones in
floating point are held against. Small and slow; shares no code with them."""

import mpmath
from mpmath import mp, mpf

from lipzoo.nn import GATConv, GATv2Conv
from lipzoo.nn.conv import IdentityMappedLinear

mp.dps = 40


def matrix_of(weight):
    return mpmath.matrix([[mpf(x) for x in row] for row in weight.detach().double().tolist()])


def weight_of(linear):
    """Exact: ``(1 - beta) I + beta W`` where the layer is identity-mapped."""
    weight = matrix_of(linear.weight)
    if isinstance(linear, IdentityMappedLinear):
        beta = mpf(linear.beta)
        weight = (1 - beta) * mpmath.eye(weight.rows) + beta * weight
    return weight


def norm(matrix):
    """Largest singular value."""
    if not any(matrix):
        return mpf(0)
    return max(mpmath.svd_r(matrix, compute_uv=False))


def scaled(matrix, rows):
    return mpmath.matrix(
        [[rows[i] * matrix[i, j] for j in range(matrix.cols)] for i in range(matrix.rows)]
    )


def length(values):
    return mpmath.sqrt(mpmath.fsum(mpf(v) ** 2 for v in values))


class Around:
    """Section 3, edge by edge. ``weights`` are those that Schur's test was made with, for the
    average and for the contrast: any are valid, and the bound is the smallest over them.
    ``with_own``: a selection may be the node itself."""

    def __init__(self, structure, spread, weights, with_own=False):
        self.inner = [structure.src[structure.dst == i].tolist() for i in range(structure.num_dst)]
        self.num_src, self.spread = structure.num_src, spread
        self.degree = [len(near) for near in self.inner]
        self.choice = [d > 1 for d in self.degree]
        grow = mpmath.exp(spread)
        self.largest = [1 / (1 + max(d - 1, 0) / grow) for d in self.degree]
        self.smallest = [1 / (1 + max(d - 1, 0) * grow) for d in self.degree]
        half = mpf(1) / 2
        tops = [
            low if low > half else min(high, half) for low, high in zip(self.smallest, self.largest)
        ]
        steepest = [top * (1 - top) for top in tops]
        ones = [mpf(1)] * len(self.inner)
        self.average = self.schur(ones, self.largest, weights[0])
        self.contrast = self.schur([1 - low for low in self.smallest], steepest, weights[-1])
        by_choice = [p if c else mpf(0) for p, c in zip(self.largest, self.choice)]
        self.column = mpmath.sqrt(max(self.to_source(by_choice)))
        reach = [set() for _ in range(self.num_src)]
        for i, near in enumerate(self.inner):
            for j in near if self.choice[i] else ():
                reach[j].add(i)
            if with_own and self.choice[i]:
                reach[i].add(i)
        self.candidates = max(self.degree) + with_own
        self.selection = mpmath.sqrt(max(map(len, reach)))
        self.overlap = max(d * p for d, p in zip(self.degree, self.largest))

    def to_source(self, on_row):
        total = [mpf(0)] * self.num_src
        for i, near in enumerate(self.inner):
            for j in near:
                total[j] += on_row[i]
        return total

    def most(self, near, weight):
        """Largest average of the weights of these nodes: every threshold is tried."""
        grow = mpmath.exp(self.spread)
        sizes = sorted((mpf(weight[j]) for j in near), reverse=True)
        return max(
            (grow * mpmath.fsum(sizes[:top]) + mpmath.fsum(sizes[top:]))
            / (grow * top + len(sizes) - top)
            for top in range(1, len(sizes) + 1)
        )

    def schur(self, factor, entry, weights):
        best = mpf("inf")
        for weight in weights:
            row = [
                entry[i] * factor[i] * self.most(near, weight) if near else mpf(0)
                for i, near in enumerate(self.inner)
            ]
            column = self.to_source(row)
            best = min(best, max(c / w for c, w in zip(column, weight)))
        return mpmath.sqrt(best)


def heads_of(layer, weight):
    width = layer.out_feats
    return [weight[h * width : (h + 1) * width, :] for h in range(layer.num_heads)]


def additive(layer, structure, weights):
    """(frobenius, per node) of a GAT or GATv2 layer with LipschitzNorm: sections 4 and 5."""
    alpha, slope = mpf(layer.score_norm.alpha), mpf(layer.leaky_relu.negative_slope)
    steep = max(mpf(1), abs(slope))
    if isinstance(layer, GATConv):
        left = [length(v) for v in layer.attn_l.detach().double()[0].tolist()]
        right = [length(v) for v in layer.attn_r.detach().double()[0].tolist()]
        edge = [mpf(0)] * len(left)
        if layer.edge_feats:
            edge = [length(v) for v in layer.attn_edge.detach().double()[0].tolist()]
        whole = [mpmath.sqrt(a**2 + b**2 + c**2) for a, b, c in zip(left, right, edge)]
        lam = [a / n if n else mpf(0) for a, n in zip(left, whole)]
        rho = [b / n if n else mpf(0) for b, n in zip(right, whole)]
    else:
        whole = [length(v) for v in layer.attn.detach().double()[0].tolist()]
    together = length(whole)
    alphas = [
        mpf(0) if not n else alpha if layer.score_norm.per_head else alpha * n / together
        for n in whole
    ]
    gamma = [steep * a for a in alphas]
    top = max(alphas)
    if isinstance(layer, GATConv):
        ends = (mpf(0), top, -slope * top)
        spread = max(ends) - min(ends)
        source = [g * mpmath.sqrt((1 + x**2) / 2) for g, x in zip(gamma, lam)]
        target = [g * r / mpmath.sqrt(2) for g, r in zip(gamma, rho)]
        value = weight_of(layer.fc)
    else:
        spread = 2 * steep * top
        # The share of the attention vectors of either end, and of both of the edge.
        end = 1 / mpmath.sqrt(3 if layer.edge_feats else 2)
        rest = mpmath.sqrt(1 - end**2)
        source = [g * mpmath.sqrt(end**2 + rest**2 / 2) for g in gamma]
        shared = layer.fc_src is layer.fc_dst
        selected = [g * (end / mpmath.sqrt(2) + 1 / mpmath.sqrt(3)) for g in gamma]
        target = selected if shared else [mpf(0)] * len(gamma)
        value = weight_of(layer.fc_src)
    selection = [g / mpmath.sqrt(3) for g in gamma]
    around = Around(structure, spread, weights, layer.sep and isinstance(layer, GATConv))
    width, heads = layer.out_feats, [norm(head) for head in heads_of(layer, value)]

    def stacked(factors):
        return norm(scaled(value, [f for f in factors for _ in range(width)]))

    def separate(factors):
        return length([f * n for f, n in zip(factors, heads)])

    ones = [mpf(1)] * len(gamma)
    several = mpmath.sqrt(around.overlap)
    per_node = min(several * stacked(ones), separate(ones))
    if not any(around.choice):
        return around.average * stacked(ones), per_node
    mixed = min(mpmath.sqrt(2) * around.contrast, around.column)
    frobenius = stacked(
        [
            around.average + mixed * s + t + around.selection * k
            for s, t, k in zip(source, target, selection)
        ]
    )
    per_node += min(several * stacked(source), separate(source) / mpmath.sqrt(2))
    per_node += stacked(target)
    distinct = mpmath.sqrt(min(len(gamma), around.candidates))
    per_node += min(distinct * stacked(selection), separate(selection))
    if isinstance(layer, GATv2Conv) and not shared:
        other = norm(scaled(weight_of(layer.fc_dst), [f for f in selected for _ in range(width)]))
        frobenius, per_node = frobenius + other, per_node + other
    return frobenius, per_node


def dot_product(layer, structure, weights):
    """(frobenius, per node) of a dot-product layer, ``scope="node"``: section 6."""
    linears = [layer.fc] * 3 if hasattr(layer, "fc") else None
    linears = linears or [layer.fc_query, layer.fc_key, layer.fc_value]
    matrices = [weight_of(linear) for linear in linears]
    q, k, v = map(norm, matrices)
    share = 1 / mpmath.sqrt(layer.out_feats)
    around = Around(structure, 2 * share, weights)

    def separate(matrix):
        return length([norm(head) for head in heads_of(layer, matrix)])

    several = mpmath.sqrt(around.overlap)
    frobenius = around.average * v
    per_node = min(several * v, separate(matrices[2]))
    if not any(around.choice):
        return frobenius, per_node
    mixed = min(2 * around.contrast, around.column)
    frobenius += share * (q + mixed * k + around.selection * (k + v))
    distinct = mpmath.sqrt(min(layer.num_heads, max(around.degree)))
    chosen = [min(distinct * n, separate(m)) for n, m in ((k, matrices[1]), (v, matrices[2]))]
    per_node += share * (q + min(several * k, separate(matrices[1])) + sum(chosen))
    return frobenius, per_node


def exact_bound(layer, structure, weights):
    """(frobenius, per node), of a layer without residual and activation."""
    return (additive if hasattr(layer, "leaky_relu") else dot_product)(layer, structure, weights)
