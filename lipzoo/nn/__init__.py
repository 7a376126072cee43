"""Graph-conv modules with score norms, feature norms, residual schemes."""

from lipzoo.attention.score_norms import DotProductLipschitzNorm, LipschitzNorm, ScoreNorm
from lipzoo.nn.conv import AttentionConv
from lipzoo.nn.convert import lipschitzify
from lipzoo.nn.degrees import keep_degrees
from lipzoo.nn.dotconv import DotGatConv, TransformerConv
from lipzoo.nn.dropout import Dropout
from lipzoo.nn.feature_norms import BatchNorm, FeatureNorm, LayerNorm, NeighborNorm, PairNorm
from lipzoo.nn.gatconv import GATConv
from lipzoo.nn.gatv2conv import GATv2Conv
from lipzoo.nn.multihead import LipschitzMultiheadAttention
from lipzoo.nn.residual import (
    Dense,
    InitialResidual,
    JumpingKnowledge,
    LinearResidual,
    NoResidual,
    Residual,
    ResidualScheme,
    Reversible,
)

__all__ = [
    "AttentionConv",
    "BatchNorm",
    "Dense",
    "DotGatConv",
    "DotProductLipschitzNorm",
    "Dropout",
    "FeatureNorm",
    "GATConv",
    "GATv2Conv",
    "InitialResidual",
    "JumpingKnowledge",
    "LayerNorm",
    "LinearResidual",
    "LipschitzMultiheadAttention",
    "LipschitzNorm",
    "NeighborNorm",
    "NoResidual",
    "PairNorm",
    "Residual",
    "ResidualScheme",
    "Reversible",
    "ScoreNorm",
    "TransformerConv",
    "keep_degrees",
    "lipschitzify",
]
