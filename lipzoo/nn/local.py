"""Whether a layer looks at a node's in-edges alone."""

from __future__ import annotations

from lipzoo.attention import DotProductLipschitzNorm
from lipzoo.nn.conv import AttentionConv

__all__ = ["is_local"]


def is_local(layer: AttentionConv) -> bool:
    """Whether what a node puts out depends on its in-edges alone.

    A score norm of scope ``"graph"`` looks at all edges, and a score hook may.
    """
    norm = layer.score_norm
    looks_at_all = isinstance(norm, DotProductLipschitzNorm) and norm.scope == "graph"
    return not looks_at_all and not layer.has_score_hooks
