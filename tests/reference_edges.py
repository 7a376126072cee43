"""Attention with edge features in plain NumPy, float64, from the equations of
docs/edge_features.md: one loop over edges and heads a kind, nothing shared with the package.

Shapes: edge ``w`` (E, H, D); the others as in ``reference.py``, whose helpers are used.
"""

import math

import numpy as np
from reference import in_edges, leaky_relu, length, ratio, softmax


def largest_over(rows, dst, node, head):
    """``max`` of the lengths of the rows (E, H, D) over the in-edges of a node."""
    return max((length(rows[e, head]) for e in in_edges(dst, node)), default=0.0)


def lengths_of_heads(vectors, per_head):
    """Norms of the attention vectors put side by side, a list of (H, D) each."""
    heads = [length(np.concatenate(parts)) for parts in zip(*vectors)]
    return heads if per_head else [length(heads)] * len(heads)


def additive(src, dst, v_src, v_dst, w, a_l, a_r, a_e, alpha=None, per_head=True, with_own=False):
    whole = lengths_of_heads((a_l[0], a_r[0], a_e[0]), per_head)
    scores = np.zeros(w.shape[:2])
    for e, h in np.ndindex(*scores.shape):
        j, i = src[e], dst[e]
        score = a_l[0, h] @ v_src[j, h] + a_r[0, h] @ v_dst[i, h] + a_e[0, h] @ w[e, h]
        if alpha is not None:
            top = largest_over(v_src[src], dst, i, h)
            if with_own:
                top = max(top, length(v_dst[i, h]))
            root = length([top, length(v_src[j, h]), length(w[e, h])])
            score = alpha * ratio(score, whole[h] * root)
        scores[e, h] = leaky_relu(score)
    return scores


def gatv2(src, dst, v_src, v_dst, w, attn, alpha=None, per_head=True):
    whole = lengths_of_heads((attn[0], attn[0], attn[0]), per_head)
    scores = np.zeros(w.shape[:2])
    for e, h in np.ndindex(*scores.shape):
        j, i = src[e], dst[e]
        inside = v_src[j, h] + v_dst[i, h] + w[e, h]
        score = sum(a * leaky_relu(x) for a, x in zip(attn[0, h], inside))
        if alpha is not None:
            top = max(largest_over(v_src[src], dst, i, h), length(v_dst[i, h]))
            root = length([top, length(v_src[j, h]), length(w[e, h])])
            score = alpha * ratio(score, whole[h] * root)
        scores[e, h] = score
    return scores


def dot(src, dst, query, key, value, w, scope=None, edge_values=False):
    keys = key[src] + w
    values = value[src] + w if edge_values else value[src]
    scores = np.zeros(w.shape[:2])
    for e, h in np.ndindex(*scores.shape):
        i = dst[e]
        score = query[i, h] @ keys[e, h] / math.sqrt(w.shape[2])
        if scope is not None:
            u = length(query[i, h]) if scope == "node" else length(query[dst][:, h].ravel())
            v, top = largest_over(keys, dst, i, h), largest_over(values, dst, i, h)
            score = ratio(score, max(u * v, u * top, v * top))
        scores[e, h] = score
    return scores


def attend(src, dst, num_dst, scores, value, w, edge_values):
    """``(weights, sum_j p_ij v_j)``, or of ``v_j + w_ij``."""
    weights = softmax(dst, num_dst, scores)
    out = np.zeros((num_dst, *value.shape[1:]))
    for e, (j, i) in enumerate(zip(src, dst)):
        out[i] += weights[e][:, None] * (value[j] + w[e] if edge_values else value[j])
    return weights, out
