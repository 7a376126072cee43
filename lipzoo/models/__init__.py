"""Architectures: nn.Modules that share one base class."""

from lipzoo.models.base import DeepAttentionNet
from lipzoo.models.contract import (
    check_has,
    check_has_head,
    missing_for_finetuning,
    parameter_groups,
)
from lipzoo.models.gat import DeepGAT, DeepGATv2
from lipzoo.models.in_context import InContextGATv2
from lipzoo.models.size import count_parameters
from lipzoo.models.transformer import DeepGraphTransformer

__all__ = [
    "DeepAttentionNet",
    "DeepGAT",
    "DeepGATv2",
    "DeepGraphTransformer",
    "InContextGATv2",
    "check_has",
    "check_has_head",
    "count_parameters",
    "missing_for_finetuning",
    "parameter_groups",
]
