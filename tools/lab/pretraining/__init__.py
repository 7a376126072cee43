"""Pretraining over several graphs at once, for weights that carry over to others."""

from lab.pretraining.graphs import check_held_out
from lab.pretraining.loop import pretrain
from lab.pretraining.recipe import PretrainingRecipe, load_pretraining

__all__ = [
    "PretrainingRecipe",
    "check_held_out",
    "load_pretraining",
    "pretrain",
]
