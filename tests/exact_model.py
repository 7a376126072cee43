"""Models of the zoo in 50 digits, from their equations: what computed logits and radii are held
against. Small and slow; shares no code with the models."""

import mpmath
import torch
from mpmath import mp, mpf

from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer

mp.dps = 50


def numbers(tensor):
    """Exactly the numbers of a vector or matrix, as lists."""
    if tensor.dim() == 1:
        return [mpf(x) for x in tensor.tolist()]
    return [[mpf(x) for x in row] for row in tensor.tolist()]


def affine(weight, bias, x):
    return [mpmath.fdot(row, x) + b for row, b in zip(weight, bias)]


def linear(module, rows):
    weight = numbers(module.weight.detach())
    bias = [mpf(0)] * len(weight) if module.bias is None else numbers(module.bias.detach())
    return [affine(weight, bias, x) for x in rows]


def length(x):
    return mpmath.sqrt(mpmath.fdot(x, x))


def leaky(x, slope):
    return x if x > 0 else mpf(slope) * x


def features(model, structure, feat):
    """What the head reads: no feature norm, no residual; identity, ReLU or ELU."""
    act = {
        "Identity": lambda x: x,
        "ReLU": lambda x: max(x, mpf(0)),
        "ELU": lambda x: x if x > 0 else mpmath.expm1(x),
    }[type(model.activation).__name__]
    h = [[act(x) for x in row] for row in linear(model.input, numbers(feat))]
    edges = list(zip(structure.src.tolist(), structure.dst.tolist()))
    for conv in model.layers:
        out = attention(type(model), conv, edges, len(h), h)
        bias = getattr(conv, "bias", None)
        bias = [mpf(0)] * len(out[0]) if bias is None else numbers(bias.detach())
        h = [[act(x + b) for x, b in zip(row, bias)] for row in out]
    return h


def logits(model, structure, feat):
    return linear(model.head, features(model, structure, feat))


def attention(kind, conv, edges, nodes, h):
    """Heads side by side."""
    width = conv.out_feats
    out = [[] for _ in range(nodes)]
    if kind is DeepGraphTransformer:
        query, key, value = (linear(fc, h) for fc in (conv.fc_query, conv.fc_key, conv.fc_value))
    elif kind is DeepGATv2:
        value, target = linear(conv.fc_src, h), linear(conv.fc_dst, h)
    else:
        assert kind is DeepGAT
        value = linear(conv.fc, h)
    for head in range(conv.num_heads):
        part = slice(head * width, (head + 1) * width)
        v = [row[part] for row in value]
        for i in range(nodes):
            near = [src for src, dst in edges if dst == i]
            if kind is DeepGraphTransformer:
                k = [row[part] for row in key]
                scores = dot_scores(
                    conv, query[i][part], [k[j] for j in near], [v[j] for j in near]
                )
            elif kind is DeepGATv2:
                scores = gatv2_scores(conv, head, target[i][part], [v[j] for j in near])
            else:
                scores = gat_scores(conv, head, v[i], [v[j] for j in near])
            top = max(scores)
            powers = [mpmath.exp(s - top) for s in scores]
            total = mpmath.fsum(powers)
            for d in range(width):
                out[i].append(mpmath.fsum(p * v[j][d] for p, j in zip(powers, near)) / total)
    return out


def gat_scores(conv, head, own, near):
    left, right = (numbers(a.detach()[0])[head] for a in (conv.attn_l, conv.attn_r))
    slope = conv.leaky_relu.negative_slope
    scores = [leaky(mpmath.fdot(left, v) + mpmath.fdot(right, own), slope) for v in near]
    if conv.score_norm is None:
        return scores
    vectors = attention_vectors(conv, head, conv.attn_l, conv.attn_r)
    return normed(conv, vectors, scores, near, length(own) if conv.sep else 0)


def gatv2_scores(conv, head, target, near):
    attn, slope = numbers(conv.attn.detach()[0])[head], conv.leaky_relu.negative_slope
    scores = [mpmath.fdot(attn, [leaky(a + b, slope) for a, b in zip(v, target)]) for v in near]
    if conv.score_norm is None:
        return scores
    vectors = attention_vectors(conv, head, conv.attn, conv.attn)
    return normed(conv, vectors, scores, near, length(target))


def attention_vectors(conv, head, *vectors):
    """Length of the vectors of one head side by side, or of all heads."""
    heads = numbers(torch.cat([vector.detach()[0] for vector in vectors], -1))
    if conv.score_norm.per_head:
        return length(heads[head])
    return length([x for vector in heads for x in vector])


def normed(conv, vectors, scores, near, least=0):
    longest = max(mpf(least), *(length(v) for v in near))
    roots = [mpmath.sqrt(longest**2 + length(v) ** 2) for v in near]
    alpha = mpf(conv.score_norm.alpha)
    return [alpha * s / (vectors * r) if r and vectors else mpf(0) for s, r in zip(scores, roots)]


def dot_scores(conv, query, keys, values, whole=None):
    """``whole`` (``scope="graph"``) is the length of the queries of all edges."""
    root = mpmath.sqrt(mpf(conv.out_feats))
    scores = [mpmath.fdot(query, k) / root for k in keys]
    if conv.score_norm is None:
        return scores
    u, v, w = (
        length(query) if whole is None else whole,
        max(map(length, keys)),
        max(map(length, values)),
    )
    longest = max(u * v, u * w, v * w)
    return [s / longest if longest else mpf(0) for s in scores]


def edge_scores(conv, structure, feat):
    """Scores as the softmax gets them, (E, H), edge after edge of the structure attended over."""
    edges = list(zip(structure.src.tolist(), structure.dst.tolist()))
    h, width = numbers(feat), conv.out_feats
    own, other, value = (
        linear(next(getattr(conv, n) for n in names if hasattr(conv, n)), h)
        for names in (
            ("fc_query", "fc_dst", "fc"),
            ("fc_key", "fc_src", "fc"),
            ("fc_value", "fc_src", "fc"),
        )
    )
    scores = [[None] * conv.num_heads for _ in edges]
    for head in range(conv.num_heads):
        t, k, v = (
            [row[head * width : (head + 1) * width] for row in rows] for rows in (own, other, value)
        )
        whole = None
        if getattr(conv.score_norm, "scope", "") == "graph":
            whole = length([x for _, i in edges for x in t[i]])
        for i in range(len(h)):
            ids = [e for e, (_, dst) in enumerate(edges) if dst == i]
            near = [edges[e][0] for e in ids]
            if not ids:
                continue
            if hasattr(conv, "attn_l"):
                found = gat_scores(conv, head, t[i], [v[j] for j in near])
            elif hasattr(conv, "attn"):
                found = gatv2_scores(conv, head, t[i], [v[j] for j in near])
            else:
                found = dot_scores(conv, t[i], [k[j] for j in near], [v[j] for j in near], whole)
            for e, score in zip(ids, found):
                scores[e][head] = score
    return scores
