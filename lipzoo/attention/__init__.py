"""Attention over the edges of a graph, its scores, its score norms and its backends."""

from lipzoo.attention.functional import graph_attention
from lipzoo.attention.fused import compact
from lipzoo.attention.ops import BACKENDS, resolve_backend
from lipzoo.attention.score_norms import (
    SCORE_NORMS,
    DotProductLipschitzNorm,
    LipschitzNorm,
    ScoreNorm,
    make_score_norm,
)
from lipzoo.attention.scores import AdditiveScores, DotProductScores, GATv2Scores, Scores
from lipzoo.attention.structure import Structure
from lipzoo.attention.structure_of import as_structure

__all__ = [
    "BACKENDS",
    "SCORE_NORMS",
    "AdditiveScores",
    "DotProductLipschitzNorm",
    "DotProductScores",
    "GATv2Scores",
    "LipschitzNorm",
    "ScoreNorm",
    "Scores",
    "Structure",
    "as_structure",
    "compact",
    "graph_attention",
    "make_score_norm",
    "resolve_backend",
]
