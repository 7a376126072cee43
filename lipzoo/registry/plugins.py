"""What users and installed packages add to the registry without a line of code.

* ``LIPZOO_CONFIG_PATH``: folders of architecture files, separated as in ``PATH``;
* installed packages with an entry point in the group ``lipzoo.models``, a function without
  arguments that calls :func:`~lipzoo.register_model` and :func:`~lipzoo.add_config_dir`.
"""

from __future__ import annotations

import os
import threading
import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from lipzoo._paths import as_path
from lipzoo.registry.files import architectures_in
from lipzoo.registry.state import STATE, undone_on_failure

__all__ = ["CONFIG_PATH", "GROUP", "config_folders", "load_plugins"]

_LOADING = threading.RLock()

CONFIG_PATH = "LIPZOO_CONFIG_PATH"
GROUP = "lipzoo.models"


def config_folders() -> list[Path]:
    """The folders that ``LIPZOO_CONFIG_PATH`` names, resolved."""
    names = os.environ.get(CONFIG_PATH, "").split(os.pathsep)
    return [as_path(name, CONFIG_PATH).resolve() for name in names if name]


def load_plugins() -> None:
    """Add the models of installed packages, once; of each all or nothing.

    Called where all names are wanted, or one that is not known yet.
    """
    with _LOADING:
        if STATE.plugins_are_loaded:
            return
        STATE.plugins_are_loaded = True  # before they run, for they may ask for names
        for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
            package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            try:
                with undone_on_failure():
                    _run(point)
            except (Exception, SystemExit) as fault:
                architectures_in.cache_clear()
                warnings.warn(
                    f"the installed package {package} offers models, but adding them failed "
                    f"({type(fault).__name__}: {fault}); they are left out. Update the package, "
                    "or uninstall it",
                    stacklevel=2,
                )


def _run(point: EntryPoint) -> None:
    add_models = point.load()
    if not callable(add_models):
        raise TypeError(
            f"its entry point {point.name!r} = {point.value!r} is a "
            f"{type(add_models).__name__}, not a function that registers models"
        )
    add_models()
