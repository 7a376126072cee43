"""What parsers of others raise, said in the words of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lipzoo.errors import DataError, shown

__all__ = ["parsing"]


@contextmanager
def parsing(
    path: Path,
    what: str,
    advice: str,
    faults: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Around the parsing of bytes that were read: ``"{path}: {what} (…); {advice}"``.

    Parameters
    ----------
    what : str
        Such as ``"is no GML that networkx reads"``.
    faults : exceptions
        Those that damage shows in, where they have a common base.

    Raises
    ------
    DataError
        For whatever is raised within, but our own words and memory that runs out.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except faults as fault:
        words = shown(" ".join(str(fault).split()) or type(fault).__name__, 200)
        raise DataError(f"{path}: {what} ({words}); {advice}") from None
