#!/usr/bin/env python3
"""What graphs cost as they grow.

tools/scale.py structure --out results/scale/structure.csv
"""

import sys
from pathlib import Path

from lab.benchmark.structures import measure_structures
from lab.command_line import Parser, run_command


def main() -> int:
    parser = Parser(prog="scale.py", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    structure = kinds.add_parser("structure", help="bytes and nanoseconds an edge of the index")
    structure.add_argument("--out", type=Path, required=True, help="the CSV file")
    structure.add_argument(
        "--edges", type=int, nargs="+", default=[1_000_000, 5_000_000], help="sizes, 10 a node"
    )
    args = parser.parse_args()
    return run_command(
        "scale.py", lambda: measure_structures(args.out, args.edges), "the same command"
    )


if __name__ == "__main__":
    sys.exit(main())
