"""Read damaged files of every kind, each kind in a process of its own, and write what came of it.

python tools/fuzz.py --cases 1000 --out results/trust
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import sys
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from lipzoo._yaml import write_atomically

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
_HEADER = "| kind | cases | loaded | refused | crashes | peak memory above the start, MB |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of fuzz.md")
    args = parser.parse_args()
    from trust.kinds import KINDS

    rows = {name: in_child(name, kind, args.cases, args.seed) for name, kind in KINDS.items()}
    text = report(rows)
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out / "fuzz.md", text.encode())
    return 1 if any(row["crashes"] for row in rows.values()) else 0


def run_kind(kind, cases: int, number: int) -> dict:
    """Counts of what became of ``cases`` damaged files."""
    from trust.kinds import attempt
    from trust.limits import bounded_memory

    counts: collections.Counter[str] = collections.Counter()
    before = _peak()

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.damaged)
    def read(content) -> None:
        try:
            with bounded_memory():
                counts[attempt(kind, content)] += 1
        except Exception as fault:
            counts["crashes"] += 1
            print(f"{type(fault).__name__}: {fault}"[:500], file=sys.stderr)

    read()
    return {**counts, "memory": _peak() - before}


def in_child(name: str, kind, cases: int, number: int) -> dict:
    """The same in a process of its own; that it dies is a crash too."""
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, json.dumps(run_kind(kind, cases, number)).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    found = os.read(mine, 4096) or b'{"crashes": 1, "memory": 0}'
    os.close(mine)
    os.waitpid(child, 0)
    print(name, found.decode(), file=sys.stderr, flush=True)
    return collections.Counter(json.loads(found))


def report(rows: dict[str, dict]) -> str:
    """The table."""
    lines = [
        "# Damaged files",
        "",
        "Loaded: read right in spite of the damage. Refused: with one of lipzoo's exceptions and",
        "one line of words. Crash: anything else, also a file made or changed, or 1 GiB of memory",
        "taken. The kinds of damage are in `tests/trust/strategies.py`.",
        "",
        _HEADER,
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        cases = row["loaded"] + row["refused"] + row["crashes"]
        memory = row["memory"] / 2**20
        counts = f"{row['loaded']} | {row['refused']} | {row['crashes']}"
        lines.append(f"| {name} | {cases} | {counts} | {memory:.0f} |")
    return "\n".join([*lines, "", f"`python {' '.join(sys.argv)}`", ""])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
