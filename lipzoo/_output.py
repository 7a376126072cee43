"""What a command writes: a file, or a folder that is begun, gone on with, replaced; others' files
are left alone."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lipzoo._atomic import is_leftover, remove_leftovers, write_all
from lipzoo._writing import LOCK_FILE, output_path, writing, writing_file
from lipzoo._yaml import read_yaml, to_yaml, write_yaml
from lipzoo.errors import ConfigError, OutputError

__all__ = ["OutputFolder", "differing", "output_file"]


@contextmanager
def output_file(path: str | os.PathLike, overwrite: bool) -> Iterator[Path]:
    """Keep other writers from a file that is to be written, in a folder that exists. A link is
    followed: what it leads to is written, as by a shell's ``>``.

    Raises
    ------
    OutputError
        If the file exists and ``overwrite`` is false, cannot be written, or is being written.
    """
    path = output_path(path)
    with writing_file(path.resolve() if path.is_symlink() else path) as target:
        if os.path.lexists(target) and not overwrite:
            raise OutputError(f"{target}: exists; choose another file, or pass --overwrite")
        remove_leftovers(target.parent, target.name)
        yield target


class OutputFolder:
    """One command's output, which a kill at any moment leaves so that the command can be repeated.

    Parameters
    ----------
    out : path
    file : str, optional
        By which it is known as one of ours. :meth:`begin` writes into it what was asked for.
    own : collection of str
        Patterns of the files written there later, in the order that they are removed in: a result
        before what it was made of, for where it stands all counts as finished.
    passing : str, optional
        Pattern of what only a killed writer leaves, beside temporary files.
    """

    def __init__(
        self,
        out: str | os.PathLike,
        file: str | None = None,
        own: Collection[str] = (),
        passing: str | None = None,
    ) -> None:
        self.path = output_path(out)
        self.file = None if file is None else self.path / file
        self.own, self.passing = own, passing

    def prepare(self, overwrite: bool = False, is_begun: bool = False) -> Path:
        """Make it; refuse one that holds something unless ``overwrite``.

        ``is_begun`` says that ``resume`` would go on with what it holds; for the message.

        Raises
        ------
        OutputError
            If it is not empty, is a file, cannot be made or written, or another process writes
            there.
        """
        words = "already holds files; choose another folder, or pass --overwrite"
        if is_begun:
            words = (
                "already holds what was begun here; go on with --resume, start anew with "
                "--overwrite, or choose another folder"
            )
        return self._make(overwrite, words, self.own)

    def fill(
        self, files: Mapping[str, bytes], overwrite: bool = False, earlier: Collection[str] = ()
    ) -> Path:
        """Write these files into it, in their order, all of them or none; those named ``earlier``
        that are not among them, of what is replaced, are removed.

        Raises
        ------
        OutputError
            See :meth:`prepare`.
        """
        with writing(self.path):
            self.prepare(overwrite)
            write_all({self.path / name: data for name, data in files.items()})
            for name in set(earlier) - set(files):
                (self.path / name).unlink(missing_ok=True)
        return self.path

    def keep(self) -> Path:
        """Make it, or go on with what is there: it grows.

        Raises
        ------
        OutputError
            If it holds other files, or see :meth:`prepare`.
        """
        words = f"holds files, but no {self.file.name}; choose another folder"
        return self._make(self.file.is_file(), words)

    def begin(
        self,
        identity: dict[str, Any],
        resume: bool,
        overwrite: bool,
        may_change: Collection[str] = (),
        wait: float = 0,
    ) -> Path:
        """Go on with what was begun, or make it and write what was asked for.

        ``resume`` and ``overwrite`` allow to go on, and to start anew: what is its own is removed,
        and nothing else. The keys in ``may_change`` (with dots) may differ where it goes on, and
        are written as they are now. For another writer it waits so many seconds.

        Raises
        ------
        ConfigError
            If it was begun with another ``identity``.
        OutputError
            See :meth:`prepare`; also if a file that a user wrote stands in the way.
        """
        with writing(self.path, wait):
            if resume and self.file.is_file():
                changed = differing(read_yaml(self.file), identity)
                names = [name for name in changed if name not in may_change]
                if names:
                    raise ConfigError(
                        f"{self.path}: was begun with other settings ({', '.join(names)} differ); "
                        f"resume with those in {self.file.relative_to(self.path)}, or choose "
                        "another folder"
                    )
                self.keep()
                if changed:
                    write_yaml(self.file, identity)
                return self.path
            if self.file.is_file() and not self._is_ours():
                raise OutputError(
                    f"{self.file}: lies where this would be written, and nothing was begun here; "
                    "choose another folder"
                )
            self.prepare(overwrite, is_begun=self.file.is_file())
            write_yaml(self.file, identity)
            return self.path

    def _is_ours(self) -> bool:
        """Whether the file was written by :meth:`begin`, and not by hand: with others of ours
        beside it, or as we write it."""
        if any(self._found(self.own)):
            return True
        try:
            return self.file.read_bytes() == to_yaml(read_yaml(self.file))
        except ConfigError:
            return False

    def _make(self, allowed: bool, refusal: str, unwanted: Collection[str] = ()) -> Path:
        with writing(self.path):
            try:
                if not (allowed or self._is_free()):
                    raise OutputError(f"{self.path}: {refusal}")
                for path in self._found(unwanted):
                    path.unlink()
                for place in self._places():
                    place.mkdir(exist_ok=True)
                    remove_leftovers(place)
            except OSError as fault:
                raise OutputError(f"{self.path}: cannot be written ({fault.strerror})") from None
        return self.path

    def _found(self, patterns: Collection[str]) -> list[Path]:
        return [path for each in patterns for path in self.path.glob(each) if path.is_file()]

    def _places(self) -> set[Path]:
        return {self.path} if self.file is None else {self.path, self.file.parent}

    def _is_free(self) -> bool:
        """Whether what is there is nothing, or was left by a kill before there was anything.

        Also in the folders in it, which a command that calls others makes for them.
        """
        passing = {*self.path.glob(self.passing)} if self.passing is not None else set()
        return not any(path not in passing and not _is_left(path) for path in self.path.rglob("*"))


def _is_left(path: Path) -> bool:
    """Whether it is a folder, a lock or a temporary file of ours."""
    if path.is_symlink():
        return False
    return path.is_dir() or path.name == LOCK_FILE or is_leftover(path)


def differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The keys, with dots for nested ones, whose values are not the same; null is a value."""
    names = []
    for key in sorted({*before, *now}, key=str):
        pair = before.get(key, _ABSENT), now.get(key, _ABSENT)
        if all(isinstance(each, dict) for each in pair):
            names += [f"{key}.{name}" for name in differing(*pair)]
        elif pair[0] != pair[1]:
            names.append(str(key))
    return names


_ABSENT = object()
