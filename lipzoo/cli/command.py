"""What ``lipzoo`` and the command lines of ``tools/`` share: a mistake is one line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from lipzoo._json import plain
from lipzoo._notes import show_notes
from lipzoo.errors import ConfigError, LipzooError

__all__ = ["Parser", "heading", "numbers", "run_command", "show"]

_MAX_MESSAGE = 2000


class Parser(argparse.ArgumentParser):
    """Answers a mistake in one line, with exit code 2; ``--help`` says every default.

    Parameters
    ----------
    fill : callable, optional
        Adds the arguments; called when the parser is used first, for it may import much.
    """

    def __init__(self, *args: Any, fill: Callable[[Parser], None] | None = None, **kwargs: Any):
        super().__init__(*args, formatter_class=_HelpFormatter, **kwargs)
        self._fill = fill

    def filled(self) -> Parser:
        """The parser, its arguments added."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def parse_known_args(self, args=None, namespace=None):
        self.filled()
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        self.exit(2, f"{_line(_program(self.prog), message)}; see {self.prog} --help\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Says a default where there is one to say."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


def run_command(program: str, work: Callable[[], None], goes_on: str | None) -> int:
    """Do ``work``; the exit code is 0, 2 for a mistake, said in one line, and 130 for Ctrl-C.

    Parameters
    ----------
    program : str
        Stands before a message.
    work : callable
        Raises a :class:`~lipzoo.LipzooError` for a mistake.
    goes_on : str or None
        Which command goes on with work that was stopped; None where all begins again.
    """
    show_notes(program)
    try:
        work()
    except LipzooError as fault:
        print(_line(program, str(fault)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        then = f"{goes_on} goes on" if goes_on else "the same command begins again"
        print(f"{program}: stopped; {then}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `lipzoo list | head`
        sys.stderr.close()
    return 0


def _program(prog: str) -> str:
    return prog.split()[0].removesuffix(".py")


def _line(program: str, message: str) -> str:
    text = " ".join(message.split())
    if len(text) > _MAX_MESSAGE:  # argparse repeats what it was given in full
        half = _MAX_MESSAGE // 2
        text = f"{text[:half]} … {text[-half:]}"
    return f"{program}: {text}"


def show(args: argparse.Namespace, facts: Any, text: str) -> None:
    """Print ``facts`` as JSON where ``--json`` asks for that, else ``text``."""
    print(json.dumps(plain(facts), indent=2, ensure_ascii=False) if args.json else text)


def heading(text: str) -> str:
    """Bold on a terminal, unless ``NO_COLOR`` is set."""
    is_bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[1m{text}\x1b[0m" if is_bold else text


def numbers(option: str, text: str | None) -> list[int] | None:
    """``2,10,30`` or ``0..4`` of an option such as ``--depths``; None where it is not given.

    Raises
    ------
    ConfigError
        If it is no such list.
    """
    from lipzoo.settings import parse_seeds

    try:
        return None if text is None else parse_seeds(text)
    except ValueError as fault:
        words = str(fault).replace("seeds", option.removeprefix("--"))
        raise ConfigError(f"{option}: {words}") from None
