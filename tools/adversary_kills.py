"""Kill every command of lipzoo that writes, 200 times each, and read what it left.

python tools/adversary_kills.py --kills 200 --seed 0 --out results/trust

Half of the kills come at random moments, half at calls that change the disk; from an empty place
and over an old output. Afterwards the old output is whole, or the new, or the command given again
makes the same bits as if nothing had happened. The exit code is 1 where it is otherwise. The same
command goes on where it was stopped.
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
    from adversary.kills import attack
    from adversary.network import NETWORK_WRITERS, network_writers
    from adversary.writers import WRITERS, warm_up

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    known = ",".join([*WRITERS, *NETWORK_WRITERS])
    parser.add_argument("--writers", default=known, help=f"some of {known}")
    parser.add_argument("--out", type=Path, help="folder of kills.json")
    args = parser.parse_args()
    # In memory where that can be: a kill does not ask for fsync, which takes most of the time.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    rows = earlier_rows(args)
    with tempfile.TemporaryDirectory(dir=memory) as folder, network_writers(folder) as remote:
        everyone = {**WRITERS, **remote}
        sources, scratch = Path(folder, "sources"), Path(folder, "scratch")
        sources.mkdir()
        scratch.mkdir()
        warm_up(sources)
        for name in args.writers.split(","):
            if name in rows:
                continue
            rows[name] = attack(everyone[name], sources, scratch, args.kills, args.seed)
            print(name, json.dumps(rows[name]), flush=True)
            if args.out is not None:
                write(args, rows)
    return 1 if any(row["number of findings"] for row in rows.values()) else 0


def earlier_rows(args: argparse.Namespace) -> dict[str, dict]:
    """What the same command found before it was stopped."""
    path = args.out and args.out / "kills.json"
    content = json.loads(path.read_text()) if path and path.is_file() else {}
    return content["writers"] if content.get("command") == _command() else {}


def _command() -> str:
    return " ".join(["python", "tools/adversary_kills.py", *sys.argv[1:]])


def write(args: argparse.Namespace, rows: dict) -> None:
    from adversary.children import commit
    from lipzoo._atomic import write_atomically

    summary = {
        "command": _command(),
        "commit": commit(ROOT),
        "kills": sum(row["killed"] for row in rows.values()),
        "findings": sum(row["number of findings"] for row in rows.values()),
        "writers": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary, indent=2)
    write_atomically(args.out / "kills.json", f"{text}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
