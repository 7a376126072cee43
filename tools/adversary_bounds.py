"""Look for layers, models and activations whose local constant exceeds their bound.

python tools/adversary_bounds.py --minutes 10 --seed 0 --out results/trust

Random modules in float64 on random graphs and blocks, with alpha up to 1e8 and features and
attention vectors from 1e-30 to 1e30; every 40th climbs by gradient ascent on features and weights.
`bounds.json` holds what was tried and found; the same command tries the findings again and goes on
where it stopped. Exit code 1 if it holds a finding.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from adversary.bounds import search


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="stop after so many (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (0)")
    parser.add_argument("--cases", type=int, help="stop when the file holds so many")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--out", type=Path, default=Path("results/trust"), help="of bounds.json")
    args = parser.parse_args()
    command = " ".join(["python", *sys.argv])
    path = args.out / "bounds.json"
    try:
        summary = search(args.seed, path, args.minutes, args.cases, args.jobs, command)
    except ValueError as fault:
        parser.error(str(fault))
    print(json.dumps(summary["kinds"], indent=1))
    for found in summary["findings"]:
        print(found)
    print(f"{summary['cases']} cases, {summary['found']} found")
    return 1 if summary["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
