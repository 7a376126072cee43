"""What users and installed packages add to the registry without a line of code.

* ``LIPZOO_CONFIG_PATH``: folders of architecture files, separated as in ``PATH``;
* installed packages with an entry point in the group ``lipzoo.models``, a function without
  arguments that calls :func:`~lipzoo.register_model` and :func:`~lipzoo.add_config_dir`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

__all__ = ["CONFIG_PATH", "GROUP", "config_folders", "plugins"]

CONFIG_PATH = "LIPZOO_CONFIG_PATH"
GROUP = "lipzoo.models"


def config_folders() -> list[Path]:
    """The folders that ``LIPZOO_CONFIG_PATH`` names, resolved."""
    names = os.environ.get(CONFIG_PATH, "").split(os.pathsep)
    return [Path(name).expanduser().resolve() for name in names if name]


def plugins() -> Iterator[tuple[str, Callable[[], None]]]:
    """For each installed package that offers models: its name, and what adds them.

    Nothing of the package is imported before the function is called.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        yield package, lambda point=point: _run(point)


def _run(point: EntryPoint) -> None:
    add_models = point.load()
    if not callable(add_models):
        raise TypeError(
            f"its entry point {point.name!r} = {point.value!r} is a "
            f"{type(add_models).__name__}, not a function that registers models"
        )
    add_models()
