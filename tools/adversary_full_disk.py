"""Let the disk be full for every command of lipzoo that writes, and see what it says and leaves.

python tools/adversary_full_disk.py --cases 30 --seed 0 --out results/trust

A command that finds no room says so in one line, with exit code 2; the old output stays as it was,
nothing half written stays behind, and the same command makes the output whole once there is room.
The exit code is 1 where it is otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

# Before torch and Numba are imported: threads would not survive the fork.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]


def main() -> int:
    from adversary.full_disk import attack, small_disk
    from adversary.network import NETWORK_WRITERS, network_writers
    from adversary.writers import WRITERS, warm_up

    known = ",".join([*WRITERS, *NETWORK_WRITERS])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=30, help="of each command and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writers", default=known, help=f"some of {known}")
    parser.add_argument("--out", type=Path, help="folder of full_disk.json")
    args = parser.parse_args()
    rows = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        small_disk() as disk,
        network_writers(folder) as remote,
    ):
        if disk is None:
            print("no tmpfs: this process may not mount one", flush=True)
        everyone = {**WRITERS, **remote}
        sources, scratch = Path(folder, "sources"), Path(folder, "scratch")
        sources.mkdir()
        scratch.mkdir()
        warm_up(sources)
        for name in args.writers.split(","):
            rows[name] = attack(everyone[name], sources, scratch, disk, args.cases, args.seed)
            print(name, json.dumps(rows[name]), flush=True)
            if args.out is not None:
                write(args, rows, disk is not None)
    return 1 if any(row["number of findings"] for row in rows.values()) else 0


def write(args: argparse.Namespace, rows: dict, has_tmpfs: bool) -> None:
    from adversary.children import commit
    from lipzoo._atomic import write_atomically

    summary = {
        "command": " ".join(["python", "tools/adversary_full_disk.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "tmpfs": "yes" if has_tmpfs else "not permitted here",
        "findings": sum(row["number of findings"] for row in rows.values()),
        "writers": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary, indent=2)
    write_atomically(args.out / "full_disk.json", f"{text}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
