"""The exceptions lipzoo raises for a user's mistake, and the words they share.

Every message says what was wrong, where, and what to do; the command line prints it on one
line and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "LipzooError",
    "OutputError",
    "UnknownNameError",
    "did_you_mean",
    "first_line",
    "shown",
]

_MAX_SHOWN = 80
#: Of more choices than that, the nearest.
_MAX_CHOICES = 10
#: A beginning of fewer letters says nothing.
_BEGINNING = 4


class LipzooError(Exception):
    """Base class of every exception that lipzoo raises on purpose."""


class ConfigError(LipzooError, ValueError):
    """A YAML file, a recipe or an argument is wrong."""


class UnknownNameError(LipzooError, LookupError):
    """A model, tag, dataset, score norm … of that name does not exist."""


class DataError(LipzooError, ValueError):
    """A graph cannot be used: no features, NaN, labels out of range, empty masks …"""


class CheckpointError(LipzooError):
    """Weights cannot be trusted or do not fit: wrong hash, cut short, another architecture."""


class OutputError(LipzooError):
    """A result cannot be written where the user asked for it."""


def did_you_mean(name: object, choices: Iterable[str], *, all_of: str = "") -> str:
    """``"; did you mean 'cora'? (choices: citeseer, cora)"``: the nearest name, and the choices.

    What the name begins with is nearest: ``feat`` to ``features``.

    Parameters
    ----------
    all_of : str
        What lists them all, for where they are many and only the nearest are named.
    """
    choices, name = sorted(map(str, choices)), str(name)[:_MAX_SHOWN]
    begun = [choice for choice in choices if len(choice) >= _BEGINNING and name.startswith(choice)]
    near = begun[-1:] or difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    if len(choices) <= _MAX_CHOICES:
        return f"{hint} (choices: {', '.join(choices) or 'none'})"
    nearest = difflib.get_close_matches(name, choices, n=_MAX_CHOICES, cutoff=0)
    rest = f" and {len(choices) - len(nearest)} more" + (f": {all_of}" if all_of else "")
    return f"{hint} (choices: {', '.join(nearest)}{rest})"


def first_line(fault: BaseException) -> str:
    """What an error of another library says at first; its class where it says nothing."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__


def shown(words: object, length: int = _MAX_SHOWN) -> str:
    """Somebody's words, for a message: on one line; of more than ``length`` both ends."""
    text = str(words)
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}…{text[half + 1 - length :]}"
