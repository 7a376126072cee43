"""Where the files that ship with the package lie."""

from __future__ import annotations

from pathlib import Path

__all__ = ["packaged_folder"]


def packaged_folder(name: str) -> Path:
    """``zoo_configs`` or ``pretrained``: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
