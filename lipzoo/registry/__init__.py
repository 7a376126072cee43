"""Names -> YAML -> models: the architectures, how they are listed, built, loaded, extended.

Names need no PyTorch; what builds models is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lipzoo.registry.classes import find_class, register_model
from lipzoo.registry.files import Architecture
from lipzoo.registry.names import (
    get_architecture,
    is_architecture,
    list_models,
    natural_key,
    split_name,
)
from lipzoo.registry.pretrained import find_checkpoint

if TYPE_CHECKING:
    from lipzoo.registry.building import (
        add_config_dir,
        build_model,
        build_pretrained,
        create_model,
        load_pretrained,
    )

__all__ = [
    "Architecture",
    "add_config_dir",
    "build_model",
    "build_pretrained",
    "create_model",
    "find_checkpoint",
    "find_class",
    "get_architecture",
    "is_architecture",
    "list_models",
    "load_pretrained",
    "natural_key",
    "register_model",
    "split_name",
]


if not TYPE_CHECKING:

    def __getattr__(name: str):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module("lipzoo.registry.building"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
