"""What tests do to the registry beyond its public functions."""

from pathlib import Path

from lipzoo import registry


def forget_architectures(folder: Path | None = None) -> None:
    """Read architecture files anew; forget a folder that was added."""
    registry._architectures_in.cache_clear()
    if folder is not None:
        path = Path(folder).resolve()
        registry._CONFIG_DIRS[:] = [known for known in registry._CONFIG_DIRS if known != path]
