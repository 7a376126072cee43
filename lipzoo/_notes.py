"""Warnings as a program says them: a line each, without where in the code they came from."""

from __future__ import annotations

import sys
import warnings

__all__ = ["show_notes"]


def show_notes(program: str) -> None:
    """From here on, print what users are warned of on stderr as notes, and no other warnings."""

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if issubclass(category, UserWarning):
            print(f"{program}: note: {message}", file=sys.stderr)

    warnings.showwarning = show
