"""What a user passes as a name or a path: which of both it is, and what no file system can hold."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path

from lipzoo.errors import ConfigError, LipzooError, UnknownNameError, did_you_mean, shown

__all__ = [
    "YAML",
    "as_path",
    "find_config",
    "is_path",
    "name_of_path",
    "packaged_folder",
    "path_hint",
]

_MAX_COMPONENT = 255  # bytes, on every common file system
#: How the files end that hold YAML.
YAML = (".yaml", ".yml")


def packaged_folder(name: str) -> Path:
    """``zoo_configs`` or ``pretrained``: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def is_path(name: object, suffixes: Collection[str] = ()) -> bool:
    """Whether a path is meant, and not a name: by its looks, never by what lies on the disk.

    A path is a ``Path``, or text that holds a separator, or begins with ``~`` or ``.``; where files
    of a kind are taken, also what ends in one of their ``suffixes``.
    """
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    separators = {os.sep, os.altsep or os.sep}
    return (
        name.startswith(("~", os.curdir))
        or any(separator in name for separator in separators)
        or os.path.splitext(name)[1] in suffixes
    )


def as_path(
    path: str | os.PathLike, what: str = "", error: type[LipzooError] = ConfigError
) -> Path:
    """A user's path, with ``~`` written out.

    Parameters
    ----------
    path : str or path
        What the user gave.
    what : str
        What it is to be, such as ``"--out"``; stands before the message.
    error : type
        The exception to raise.

    Raises
    ------
    LipzooError
        If no file can have that name: it is too long, holds a NUL or half a character, or begins
        with the home of nobody.
    """
    where = f"{what}: " if what else ""
    try:
        text = os.fspath(path)
        text.encode("utf-8")
        found = Path(text).expanduser()
        os.lstat(found)  # the system knows its limits
    except RuntimeError:
        user = f"'{shown(text.partition(os.sep)[0])}'"
        raise error(f"{where}{user}: there is no such user; write the folder out") from None
    except (TypeError, AttributeError):
        kind = type(path).__name__
        raise error(f"{where}must be a name or a path, got a value of type {kind}") from None
    except ValueError:
        raise error(f"{where}'{shown(path)}': holds a character that no path may hold") from None
    except OSError as fault:
        if fault.errno == errno.ENAMETOOLONG:
            raise error(f"{where}'{shown(path)}': is too long for a path") from None
    if any(len(os.fsencode(part)) > _MAX_COMPONENT for part in found.parts):
        raise error(f"{where}'{shown(path)}': is too long for a path")
    return found


def name_of_path(path: str | os.PathLike, suffixes: Collection[str] = ()) -> str:
    """The text of a path that :func:`is_path` takes for one: ``./graph`` of ``Path("graph")``."""
    text = os.fspath(path)
    return text if is_path(text, suffixes) else os.path.join(os.curdir, text)


def path_hint(name: str) -> str:
    """What to say where a name is unknown but a file or folder is called so; else nothing."""
    try:
        is_there = os.path.lexists(name)
    except ValueError:
        return ""
    return f" (to mean what lies in this folder, write .{os.sep}{name})" if is_there else ""


def find_config(path: str | os.PathLike, folder: Path, what: str) -> Path:
    """A file by its path, or a YAML file in ``folder`` by its name.

    Raises
    ------
    UnknownNameError
        If it is neither a path nor such a name; ``what`` says what was looked for.
    ConfigError
        If it is a path that no file can have.
    """
    if is_path(path, YAML):
        return as_path(path, what)
    shipped = {f.stem: f for f in folder.glob("*.yaml")}
    if path not in shipped:
        hint = f"{path_hint(str(path))}{did_you_mean(path, shipped)}"
        raise UnknownNameError(f"no {what} '{shown(path)}'{hint}")
    return shipped[path]
