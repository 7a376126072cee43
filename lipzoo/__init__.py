"""lipzoo: a model zoo of deep graph attention networks on DGL.

Public names are imported when they are first used: to list names needs neither PyTorch nor DGL.
"""

__version__ = "0.2.0"

from importlib import import_module
from typing import TYPE_CHECKING

from lipzoo import _environment  # noqa: F401 - before DGL is loaded

if TYPE_CHECKING:
    from lipzoo import (  # noqa: F401 - the rooms
        attention,
        card,
        context,
        convert,
        datasets,
        errors,
        hub,
        lipschitz,
        models,
        nn,
        plots,
        registry,
        report,
        sklearn,
        training,
        weights,
    )
    from lipzoo.context import ClosedFormStack
    from lipzoo.datasets import GraphTask, load_dataset
    from lipzoo.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        LipzooError,
        OutputError,
        UnknownNameError,
    )
    from lipzoo.hub.push import push_to_hub
    from lipzoo.nn import lipschitzify
    from lipzoo.registry import (
        add_config_dir,
        create_model,
        list_models,
        load_pretrained,
        register_model,
    )
    from lipzoo.training.finetune import finetune  # not the module of that name

__all__ = [
    "CheckpointError",
    "ClosedFormStack",
    "ConfigError",
    "DataError",
    "GraphTask",
    "LipzooError",
    "OutputError",
    "UnknownNameError",
    "add_config_dir",
    "convert",
    "create_model",
    "finetune",
    "lipschitz",
    "lipschitzify",
    "list_models",
    "load_dataset",
    "load_pretrained",
    "nn",
    "plots",
    "push_to_hub",
    "register_model",
]

#: Where the public names come from.
_HOMES = {
    "lipzoo.context": ("ClosedFormStack",),
    "lipzoo.datasets": ("GraphTask", "load_dataset"),
    "lipzoo.errors": (
        "CheckpointError",
        "ConfigError",
        "DataError",
        "LipzooError",
        "OutputError",
        "UnknownNameError",
    ),
    "lipzoo.hub.push": ("push_to_hub",),
    "lipzoo.nn": ("lipschitzify",),
    "lipzoo.registry": (
        "add_config_dir",
        "create_model",
        "list_models",
        "load_pretrained",
        "register_model",
    ),
    "lipzoo.training": ("finetune",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
#: Rooms that may be used without an import of their own.
_ROOMS = (
    *("attention", "card", "context", "convert", "datasets", "errors", "hub", "lipschitz"),
    *("models", "nn", "plots", "registry", "report", "sklearn", "training", "weights"),
)


if not TYPE_CHECKING:  # who checks types is to see that a misspelt name is none

    def __getattr__(name: str):
        if name in _ROOMS:
            return import_module(f"{__name__}.{name}")
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
