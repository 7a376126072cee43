#!/usr/bin/env python3
"""Milliseconds and memory of all pretrained weights, one thread.

tools/weights_speed.py --out results/speed_cpu.csv [NAME …]

With names, only those are measured; the rows of the others stay.
"""

import sys
from pathlib import Path

from lab.benchmark.weights import measure_weights
from lab.command_line import Parser, run_command


def main() -> int:
    parser = Parser(prog="weights_speed.py", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these weights")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file")
    parser.add_raw_dir()
    args = parser.parse_args()
    return run_command(
        "weights_speed",
        lambda: measure_weights(args.out, args.names, args.raw_dir),
        "the same command",
    )


if __name__ == "__main__":
    sys.exit(main())
