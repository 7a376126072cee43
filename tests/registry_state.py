"""What tests do to the registry beyond its public functions."""

from contextlib import contextmanager
from pathlib import Path

from lipzoo.registry.files import architectures_in
from lipzoo.registry.state import STATE


@contextmanager
def fresh_registry():
    """What is added in the block is gone after it; packages are not loaded before."""
    kept = STATE.classes.copy(), list(STATE.folders), STATE.plugins_are_loaded
    try:
        yield
    finally:
        STATE.classes, STATE.folders, STATE.plugins_are_loaded = kept
        architectures_in.cache_clear()


@contextmanager
def names_removed(*registries):
    """What is registered in the block is no name after it."""
    kept = [set(registry) for registry in registries]
    try:
        yield
    finally:
        for registry, names in zip(registries, kept):
            for name in set(registry) - names:
                registry.remove(name)


def forget_architectures(folder: Path | None = None) -> None:
    """Read architecture files anew; forget a folder that was added."""
    architectures_in.cache_clear()
    if folder is not None:
        path = Path(folder).resolve()
        STATE.folders = [known for known in STATE.folders if known != path]
