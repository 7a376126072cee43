"""Folders in which something is a link, a pipe or a device: none is followed, none is repeated."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from trust.corpus import STARTS
from trust.kinds import outcome

#: What no message may hold.
SECRET = "root:x:0:0:hidden"
#: Readers of single files, which the user names: that is no link in somebody's folder, and it may
#: lead to another file, but not to a pipe or a device.
_NAMED = (
    "recipe YAML",
    "search space YAML",
    "sweep YAML",
    ".npz",
    "arrays of an .npz",
    ".bin",
    "graph of a .bin",
    ".graphml",
    ".gml",
    ".pt",
    "members of a .pt",
)


def targets(place: Path) -> dict[str, Path]:
    """Where a link may lead, all outside the folder."""
    secret, pipe, folder = place / "secret", place / "pipe", place / "other"
    secret.write_text(f"{SECRET}\n" * 3)
    (place / "yaml").write_text(f"a: '{SECRET}\n")
    (place / "table").write_text(f"node_id,src_id,dst_id\n{SECRET},1,2\n")
    os.mkfifo(pipe)
    folder.mkdir()
    names = ("secret", "yaml", "table", "pipe", "other", "absent")
    system = ("/dev/zero", "/dev/full", "/proc/self/environ", "/proc/self/mem", "/etc/shadow")
    return {**{name: place / name for name in names}, **{name: Path(name) for name in system}}


def attack(place: Path) -> Iterator[tuple[str, str | None]]:
    """``(what, None)`` for each attack that was refused, ``(what, words)`` for a finding."""
    aims = targets(place)
    for name, start in STARTS.items():
        good = start.files(start.seeds[0])
        for file in good:
            for aim, path in aims.items():
                for how in ("link", "link to a link", "itself"):
                    folder = place / f"{abs(hash((name, file, aim, how)))}" / "inner"
                    folder.mkdir(parents=True)
                    for each, data in good.items():
                        (folder / each).write_bytes(data)
                    (folder / file).unlink()
                    lay(folder / file, path, how)
                    yield f"{name}: {file} -> {aim} ({how})", _fault(name, start, folder)


def lay(file: Path, path: Path, how: str) -> None:
    if how == "link":
        file.symlink_to(path)
    elif how == "link to a link":
        file.with_name("between").symlink_to(path)
        file.symlink_to("between")
    else:
        os.mkfifo(file)


def _fault(name: str, start, folder: Path) -> str | None:
    words: list[str] = []

    def read(folder: Path) -> object:
        try:
            return start.read(folder)
        except Exception as fault:
            words.append(str(fault))
            raise

    begun = time.monotonic()
    try:
        result = outcome(read, folder)
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"[:500]
    if time.monotonic() - begun > 20:
        return "hung"
    if name not in _NAMED and result == "loaded":
        return "it was read"
    if name not in _NAMED and ("hidden" in words[0] or "root:" in words[0]):
        return f"repeats what is outside: {words[0]}"[:500]
    return None
