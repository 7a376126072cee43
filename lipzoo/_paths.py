"""Where the files that ship with the package lie."""

from __future__ import annotations

import os
from pathlib import Path

from lipzoo.errors import UnknownNameError, did_you_mean

__all__ = ["find_config", "packaged_folder"]


def packaged_folder(name: str) -> Path:
    """``zoo_configs`` or ``pretrained``: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def find_config(path: str | os.PathLike, folder: Path, what: str) -> Path:
    """A file by its path, or a YAML file in ``folder`` by its name.

    Raises
    ------
    UnknownNameError
        If it is neither a path nor such a name; ``what`` says what was looked for.
    """
    file = Path(path)
    if file.is_file() or file.suffix in (".yaml", ".yml") or os.sep in os.fspath(path):
        return file
    shipped = {f.stem: f for f in folder.glob("*.yaml")}
    if str(path) not in shipped:
        raise UnknownNameError(f"no {what} {str(path)!r}{did_you_mean(path, shipped)}")
    return shipped[str(path)]
