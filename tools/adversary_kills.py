"""Kill every command of lipzoo that writes, 200 times each, and read what it left.

python tools/adversary_kills.py --kills 200 --seed 0 --out results/trust

Half of the kills come at random moments, half at calls that change the disk; from an empty place
and over an old output. Afterwards the old output is whole, or the new, or the command given again
makes the same bits as if nothing had happened. The exit code is 1 where it is otherwise. The same
command goes on where it was stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before torch and Numba are imported: threads would not survive the fork.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]


def main() -> int:
    from adversary.each_writer import attack_each
    from adversary.kills import attack

    def about(rows):
        return {"kills": sum(row["killed"] for row in rows.values())}

    # In memory where that can be: a kill does not ask for fsync, which takes most of the time.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    words = __doc__.splitlines()[0]
    return attack_each("kills", words, ("kills", 200), attack, about, memory)


if __name__ == "__main__":
    sys.exit(main())
