"""A table of results on the disk that only grows, and is whole at any time."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lipzoo._yaml import write_atomically
from lipzoo.errors import OutputError

__all__ = ["Table", "locked"]


class Table:
    """Rows of a CSV file, in memory and on the disk.

    Parameters
    ----------
    path : path
        The file; read where it exists.
    columns : sequence of str
        Its header.

    Raises
    ------
    OutputError
        If the file holds other columns.
    """

    #: The columns that say which run a row belongs to; see ``Point.key``.
    KEY = ("model", "depth", "missing_rate", "seed", "recipe_hash")

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self.rows = list(reader)
            if tuple(reader.fieldnames or ()) != columns:
                raise OutputError(
                    f"{path}: its columns are {reader.fieldnames}, not {list(columns)}; move it "
                    "away, or choose another folder"
                )

    def keys(self) -> set[tuple[str, ...]]:
        """The finished runs."""
        return {tuple(row[name] for name in self.KEY) for row in self.rows}

    def add(self, rows: list[dict]) -> None:
        """Append rows. A kill leaves the file with all of them or none."""
        self.rows += [{name: str(row[name]) for name in self.columns} for row in rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue().encode("utf-8"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second sweep out of a folder; the system opens the lock when the process ends.

    Raises
    ------
    OutputError
        If another process works there.
    """
    import fcntl  # POSIX, as DGL's wheels that work with a current PyTorch

    # Beside the runs, which are not kept under version control either.
    (folder / "runs").mkdir(exist_ok=True)
    with (folder / "runs" / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(
                f"{folder}: another process works on this sweep; wait for it, or choose another "
                "folder"
            ) from None
        file.write(str(os.getpid()))
        file.flush()
        yield
