"""What the command lines of ``tools/`` share: exit codes, one line an error, lists of numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lipzoo.errors import ConfigError, LipzooError
from lipzoo.training.recipe import parse_seeds

__all__ = ["numbers", "run_tool"]


def run_tool(name: str, work: Callable[[], None], goes_on: str) -> int:
    """Do ``work``; the exit code is 0, 2 for a mistake, said in one line, and 130 for Ctrl-C.

    Parameters
    ----------
    name : str
        Stands before a message.
    work : callable
        Raises a :class:`~lipzoo.LipzooError` for a mistake.
    goes_on : str
        Which command goes on with work that was stopped.
    """
    try:
        work()
    except LipzooError as fault:
        print(f"{name}: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: stopped; {goes_on} goes on", file=sys.stderr)
        return 130
    return 0


def numbers(option: str, text: str | None) -> list[int] | None:
    """``2,10,30`` or ``0..4`` of an option such as ``--depths``; None where it is not given.

    Raises
    ------
    ConfigError
        If it is no such list.
    """
    try:
        return None if text is None else parse_seeds(text)
    except ValueError as fault:
        words = str(fault).replace("seeds", option.removeprefix("--"))
        raise ConfigError(f"{option}: {words}") from None
