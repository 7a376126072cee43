"""The architectures by name; nothing here needs PyTorch."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable

from lipzoo._paths import as_path, path_hint
from lipzoo.errors import ConfigError, UnknownNameError, did_you_mean, shown
from lipzoo.registry.classes import is_registered, unknown_class
from lipzoo.registry.files import Architecture, architectures_in
from lipzoo.registry.plugins import CONFIG_PATH, config_folders, load_plugins
from lipzoo.registry.state import STATE
from lipzoo.weights import list_checkpoints

__all__ = [
    "add_folder",
    "all_architectures",
    "get_architecture",
    "is_architecture",
    "list_models",
    "natural_key",
    "near",
    "split_name",
]


def split_name(name: str) -> tuple[str, str | None]:
    """``"gat_lip_16.cora"`` -> ``("gat_lip_16", "cora")``; without a tag, ``None``."""
    architecture, _, tag = name.partition(".")
    return architecture, tag or None


def natural_key(name: str) -> list:
    """Sort key under which ``gat_2`` comes before ``gat_16``."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name) if p]


def _added_architectures() -> dict[str, Architecture]:
    merged: dict[str, Architecture] = {}
    for folder in STATE.folders:
        merged.update(architectures_in(folder))
    return merged


def all_architectures() -> dict[str, Architecture]:
    """All that are known: those that ship, were added, or come with ``LIPZOO_CONFIG_PATH`` and
    installed packages.
    """
    load_plugins()
    for folder in config_folders():
        if folder not in STATE.folders:
            try:
                add_folder(folder)
            except ConfigError as fault:
                raise ConfigError(f"{CONFIG_PATH}: {fault}") from None
    return _added_architectures()


def _check_class(architecture: Architecture) -> None:
    if not is_registered(architecture.model):
        hint = unknown_class(architecture.model)
        raise ConfigError(f"{architecture.path}: model: no registered class {hint}")


def add_folder(
    folder: str | os.PathLike,
    force: bool = False,
    check: Callable[[Architecture], None] = _check_class,
) -> list[str]:
    """:func:`~lipzoo.add_config_dir`, with a ``check`` of one's own of each architecture."""
    path = as_path(folder).resolve()
    if not path.is_dir():
        raise ConfigError(f"{path}: is no folder; name one that holds architecture YAML files")
    architectures_in.cache_clear()  # files may have changed since they were read
    added = architectures_in(path)
    if not added:
        raise ConfigError(f"{path}: holds no .yaml file; put architecture files there")
    for architecture in added.values():
        check(architecture)
    others = [known for known in STATE.folders if known != path]
    taken = {name for known in others for name in architectures_in(known)} & set(added)
    if taken and not force:
        raise ConfigError(
            f"{path}: {', '.join(sorted(taken))} already exist; rename the file, or pass "
            "force=True to override"
        )
    STATE.folders = [*others, path]
    return sorted(added, key=natural_key)


def get_architecture(name: str) -> Architecture:
    """The architecture of that name (without tag).

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    known = _added_architectures()
    if name not in known:
        known = all_architectures()
    if name not in known:
        raise UnknownNameError(f"no architecture '{shown(name)}'{path_hint(name)}{near(name)}")
    return known[name]


def is_architecture(name: str) -> bool:
    """Whether there is an architecture of that name (without tag), listed or not."""
    return name in _added_architectures() or name in all_architectures()


def near(name: str) -> str:
    """The architectures that may have been meant; see :func:`~lipzoo.errors.did_you_mean`."""
    return did_you_mean(name, list_models(), all_of="`lipzoo list` shows all")


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names in natural order.

    Parameters
    ----------
    pattern : str
        fnmatch pattern, such as ``"gat_lip*"``.
    pretrained : bool
        List the trained variants (``gat_lip_16.cora``) instead of the architectures.
    """
    known = () if pretrained else all_architectures().values()
    names = list_checkpoints() if pretrained else [each.name for each in known if not each.hidden]
    return sorted((name for name in names if fnmatch.fnmatch(name, pattern)), key=natural_key)
