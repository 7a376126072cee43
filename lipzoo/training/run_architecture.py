"""The architecture of a run, kept in its folder: the file it was read from may change afterwards.

``OUT/architecture.yaml`` is an architecture file itself: the class and the arguments as they were
when the run was begun, without the recipe's overrides and the sizes of the data.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from lipzoo._output import OutputFolder, differing
from lipzoo._schema import validate
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.errors import ConfigError
from lipzoo.registry import Architecture, get_architecture
from lipzoo.registry.files import ArchitectureFile
from lipzoo.training.run_folder import seed_folders

__all__ = ["ARCHITECTURE_FILE", "architecture_of_run", "keep_architecture"]

ARCHITECTURE_FILE = "architecture.yaml"


def keep_architecture(output: OutputFolder, architecture: Architecture, place: str = "") -> None:
    """Write the architecture, as its file gives it today, into a run's folder that keeps none.

    Not beside results: with what those were trained, only a kept file could tell. ``place`` is
    the part of the folder that is a baseline's.

    Raises
    ------
    ConfigError
        If the run was begun with another architecture of that name.
    """
    folder = output.path / place
    kept = _read(folder, architecture.name)
    if kept is None:
        files = (path for seed in seed_folders(folder).values() for path in seed.iterdir())
        if not any(path.is_file() for path in files):
            folder.mkdir(parents=True, exist_ok=True)
            keys = ("model", "description", "source", "args")
            content = {key: getattr(architecture, key) for key in keys}
            write_yaml(folder / ARCHITECTURE_FILE, content)
        return
    before, now = ({"model": a.model, **a.args} for a in (kept, architecture))
    names = differing(before, now)
    if names:
        raise ConfigError(
            f"{folder}: was begun when {architecture.name} was another architecture "
            f"({', '.join(names)} differ in {architecture.path}); set it back to what "
            f"{ARCHITECTURE_FILE} says, or choose another folder"
        )


def architecture_of_run(folder: Path, name: str) -> Architecture:
    """The architecture that a run was trained with.

    A folder of lipzoo 0.1 does not keep it: then it is that of the name today, with a warning.

    Raises
    ------
    UnknownNameError
        If it is neither kept nor known.
    """
    kept = _read(folder, name)
    if kept is not None:
        return kept
    found = get_architecture(name)
    warnings.warn(
        f"{folder}: an older lipzoo trained it and kept no {ARCHITECTURE_FILE}; its arguments are "
        f"taken from {found.path} as that is today",
        stacklevel=3,
    )
    return found


def _read(folder: Path, name: str) -> Architecture | None:
    path = folder / ARCHITECTURE_FILE
    if not path.is_file():
        return None
    file = validate(ArchitectureFile, read_yaml(path), where=str(path))
    return Architecture(name, file.model, file.args, file.description, file.source, None, path)
