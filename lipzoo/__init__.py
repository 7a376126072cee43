"""lipzoo: a model zoo of deep graph attention networks on DGL."""

__version__ = "0.2.0"

from lipzoo import _openmp  # noqa: F401 - before PyTorch is loaded

# isort: split
from lipzoo import lipschitz, nn
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LipzooError,
    OutputError,
    UnknownNameError,
)
from lipzoo.hub.huggingface import push_to_hub
from lipzoo.nn import lipschitzify
from lipzoo.registry import (
    add_config_dir,
    create_model,
    list_models,
    load_pretrained,
    register_model,
)
from lipzoo.training import finetune

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GraphTask",
    "LipzooError",
    "OutputError",
    "UnknownNameError",
    "add_config_dir",
    "create_model",
    "finetune",
    "lipschitz",
    "lipschitzify",
    "list_models",
    "load_dataset",
    "load_pretrained",
    "nn",
    "push_to_hub",
    "register_model",
]
