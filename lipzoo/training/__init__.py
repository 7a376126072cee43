"""Recipes, the training loop, export, fine-tuning, prediction."""

from lipzoo.training.export import export_run
from lipzoo.training.finetune import FinetuneResult, finetune
from lipzoo.training.loop import FitResult, fit
from lipzoo.training.metrics import evaluate
from lipzoo.training.new_nodes import NewPredictions, predict_new
from lipzoo.training.predict import predict, write_predictions
from lipzoo.training.recipe import FitSettings, Recipe, load_recipe
from lipzoo.training.run import train
from lipzoo.training.search_space import load_space
from lipzoo.training.tune import tune
from lipzoo.training.warm_start import warm_start_head

__all__ = [
    "FinetuneResult",
    "FitResult",
    "FitSettings",
    "NewPredictions",
    "Recipe",
    "evaluate",
    "export_run",
    "finetune",
    "fit",
    "load_recipe",
    "load_space",
    "predict",
    "predict_new",
    "train",
    "tune",
    "warm_start_head",
    "write_predictions",
]
