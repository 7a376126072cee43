"""Graph attention in plain NumPy, float64: what the tests hold lipzoo against.

Written from the equations in the docstrings of ``lipzoo/attention/scores.py`` and
``score_norms.py``, edge by edge and neighbourhood by neighbourhood, and not from the torch code.
``src`` and ``dst`` list the edges; an edge that occurs twice is two neighbours. Shapes: N nodes,
E edges, H heads, D features per head.
"""

import math

import numpy as np


def in_edges(dst, node):
    """Ids of the edges that end in ``node``."""
    return [edge for edge, end in enumerate(dst) if end == node]


def leaky_relu(x, slope=0.2):
    return x if x >= 0 else slope * x


def length(vector):
    return math.sqrt(sum(float(x) ** 2 for x in vector))


def ratio(numerator, denominator):
    """Zero rows: there the score is 0."""
    return 0.0 if denominator == 0 else numerator / denominator


def longest_neighbour(src, dst, node, rows, head):
    """``max_{k in N(i)} ||rows_k||``, 0 over no neighbours."""
    return max((length(rows[src[e], head]) for e in in_edges(dst, node)), default=0.0)


def additive_scores(
    src, dst, v_src, v_dst, attn_l, attn_r, alpha=None, per_head=True, with_own=False
):
    """GAT's scores (E, H), with LipschitzNorm where ``alpha`` is given.

    The paper's order: the norm first, then LeakyReLU. ``with_own``: a node looks at itself too.
    """
    num_heads = v_src.shape[1]
    vectors = [length([*attn_l[0, h], *attn_r[0, h]]) for h in range(num_heads)]
    if not per_head:
        vectors = [length(vectors)] * num_heads
    scores = np.zeros((len(src), num_heads))
    for e, (j, i) in enumerate(zip(src, dst)):
        for h in range(num_heads):
            score = attn_l[0, h] @ v_src[j, h] + attn_r[0, h] @ v_dst[i, h]
            if alpha is not None:
                longest = longest_neighbour(src, dst, i, v_src, h)
                if with_own:
                    longest = max(longest, length(v_dst[i, h]))
                root = math.sqrt(longest**2 + length(v_src[j, h]) ** 2)
                score = alpha * ratio(score, vectors[h] * root)
            scores[e, h] = leaky_relu(score)
    return scores


def gatv2_scores(src, dst, v_src, v_dst, attn, alpha=None, per_head=True):
    """GATv2's scores (E, H), with LipschitzNorm where ``alpha`` is given."""
    num_heads = v_src.shape[1]
    vectors = [length([*attn[0, h], *attn[0, h]]) for h in range(num_heads)]
    if not per_head:
        vectors = [length(vectors)] * num_heads
    scores = np.zeros((len(src), num_heads))
    for e, (j, i) in enumerate(zip(src, dst)):
        for h in range(num_heads):
            pair = v_src[j, h] + v_dst[i, h]
            score = sum(a * leaky_relu(x) for a, x in zip(attn[0, h], pair))
            if alpha is not None:
                longest = longest_neighbour(src, dst, i, v_src, h)
                longest = max(longest, length(v_dst[i, h]))
                root = math.sqrt(longest**2 + length(v_src[j, h]) ** 2)
                score = alpha * ratio(score, vectors[h] * root)
            scores[e, h] = score
    return scores


def dot_scores(src, dst, query, key, value, scope=None):
    """Dot-product scores (E, H), with DotProductLipschitzNorm where ``scope`` is given."""
    _, num_heads, width = query.shape
    scores = np.zeros((len(src), num_heads))
    for e, (j, i) in enumerate(zip(src, dst)):
        for h in range(num_heads):
            score = query[i, h] @ key[j, h] / math.sqrt(width)
            if scope is not None:
                u = length(query[i, h])
                if scope == "graph":
                    u = length(query[dst][:, h].ravel())
                v = longest_neighbour(src, dst, i, key, h)
                w = longest_neighbour(src, dst, i, value, h)
                score = ratio(score, max(u * v, u * w, v * w))
            scores[e, h] = score
    return scores


def softmax(dst, num_dst, scores):
    """Over the in-edges of each node, per head: (E, H)."""
    weights = np.zeros_like(scores)
    for i in range(num_dst):
        edges = in_edges(dst, i)
        if edges:
            powers = np.exp(scores[edges] - scores[edges].max(0))
            weights[edges] = powers / powers.sum(0)
    return weights


def aggregate(src, dst, num_dst, weights, value):
    """``sum_j p_ij v_j``: (num_dst, H, D)."""
    out = np.zeros((num_dst, *value.shape[1:]))
    for e, (j, i) in enumerate(zip(src, dst)):
        out[i] += weights[e][:, None] * value[j]
    return out
