"""What is registered, in one place, so that it can be put back as it was."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lipzoo._names import Registry
from lipzoo._paths import packaged_folder

__all__ = ["SHIPPED", "STATE", "undone_on_failure"]

#: The architecture files that ship with lipzoo; its tests check them, no user need wait for that.
SHIPPED: Path = packaged_folder("zoo_configs")


def _own_classes() -> Registry:
    classes: Registry = Registry("model class", "model")
    for name in ("DeepGAT", "DeepGATv2", "DeepGraphTransformer", "InContextGATv2"):
        classes.register(name)(f"lipzoo.models:{name}")
    return classes


@dataclass
class _State:
    """Model classes by name, and folders of YAML files."""

    classes: Registry = field(default_factory=_own_classes)
    folders: list[Path] = field(default_factory=lambda: [SHIPPED])
    plugins_are_loaded: bool = False


STATE = _State()


@contextmanager
def undone_on_failure():
    """Put classes and folders back where the block raises."""
    classes, folders = STATE.classes.copy(), list(STATE.folders)
    try:
        yield
    except BaseException:
        STATE.classes, STATE.folders = classes, folders
        raise
