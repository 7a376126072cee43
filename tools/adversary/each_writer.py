"""One attack on every command of lipzoo that writes: the command line, and a file that grows."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adversary.children import commit
from adversary.network import NETWORK_WRITERS, network_writers
from adversary.writers import WRITERS, Writer, warm_up
from lipzoo._atomic import write_atomically

__all__ = ["attack_each"]

ROOT = Path(__file__).resolve().parents[2]

#: A writer, the folders of its sources and of its output, how often, and the seed.
Attack = Callable[[Writer, Path, Path, int, int], dict[str, Any]]


def attack_each(
    name: str,
    words: str,
    count: tuple[str, int],
    attack: Attack,
    about: Callable[[Mapping[str, dict]], dict[str, Any]],
    memory: str | None = None,
) -> int:
    """Run ``tools/adversary_NAME.py``, and write ``NAME.json``, a row a command that was attacked.

    The same command goes on where it was stopped. The exit code is 1 where something was found.

    Parameters
    ----------
    words : str
        What the tool is for.
    count : str and int
        The option that says how often each command is attacked, and how often by default.
    about : callable
        What the file says beside the rows.
    memory : str, optional
        The folder of what is written meanwhile.
    """
    known = [*WRITERS, *NETWORK_WRITERS]
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument(f"--{count[0]}", type=int, default=count[1], help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writers", default=",".join(known), help=f"some of {','.join(known)}")
    parser.add_argument("--out", type=Path, help=f"folder of {name}.json")
    args = parser.parse_args()
    writers = args.writers.split(",")
    if unknown := [each for each in writers if each not in known]:
        parser.error(f"no writer {', '.join(unknown)}; choose some of {', '.join(known)}")
    command = " ".join(["python", f"tools/adversary_{name}.py", *sys.argv[1:]])
    file = args.out and args.out / f"{name}.json"
    before = json.loads(file.read_text()) if file and file.is_file() else {}
    rows = before["writers"] if before.get("command") == command else {}
    with tempfile.TemporaryDirectory(dir=memory) as folder, network_writers(folder) as remote:
        everyone = {**WRITERS, **remote}
        sources, scratch = Path(folder, "sources"), Path(folder, "scratch")
        sources.mkdir()
        scratch.mkdir()
        warm_up(sources)
        for each in writers:
            if each in rows:
                continue
            often = getattr(args, count[0])
            rows[each] = attack(everyone[each], sources, scratch, often, args.seed)
            print(each, json.dumps(rows[each]), flush=True)
            if file:
                content = {
                    "command": command,
                    "commit": commit(ROOT),
                    **about(rows),
                    "findings": sum(row["number of findings"] for row in rows.values()),
                    "writers": rows,
                }
                args.out.mkdir(parents=True, exist_ok=True)
                write_atomically(file, f"{json.dumps(content, indent=2)}\n".encode())
    return 1 if any(row["number of findings"] for row in rows.values()) else 0
