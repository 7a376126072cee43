"""Let the disk be full for every command of lipzoo that writes, and see what it says and leaves.

python tools/adversary_full_disk.py --cases 30 --seed 0 --out results/trust

A command that finds no room says so in one line, with exit code 2; the old output stays as it was,
nothing half written stays behind, and the same command makes the output whole once there is room.
The exit code is 1 where it is otherwise. The same command goes on where it was stopped.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

# Before torch and Numba are imported: threads would not survive the fork.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]


def main() -> int:
    from adversary.each_writer import attack_each
    from adversary.full_disk import attack, small_disk

    with small_disk() as disk:
        if disk is None:
            print("no tmpfs: this process may not mount one", flush=True)
        words, has_tmpfs = __doc__.splitlines()[0], "yes" if disk else "not permitted here"
        attack_on = partial(attack, disk=disk)
        return attack_each(
            "full_disk", words, ("cases", 30), attack_on, lambda rows: {"tmpfs": has_tmpfs}
        )


if __name__ == "__main__":
    sys.exit(main())
