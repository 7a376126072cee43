"""``tools/benchmark.py``: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from lab.benchmark.cases import default_cases
from lab.benchmark.measurements import read_rows, run_benchmark
from lab.benchmark.report import write_report
from lab.command_line import Parser, run_command

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``benchmark.py ARGV``; the exit code is 0, 2 for a mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    return run_command("benchmark", lambda: _measure(args), "the same command")


def _measure(args: argparse.Namespace) -> None:
    if not args.report:
        sizes = {"graphs": args.graphs, "widths": args.widths, "depths": args.depths}
        if args.quick:
            small = {"graphs": ["powerlaw:2000:20000"], "widths": [8], "depths": [2, 4]}
            sizes = {n: small[n] if given is None else given for n, given in sizes.items()}
            sizes["edges"] = [10_000, 40_000]
        run_benchmark(
            default_cases(
                **{name: given for name, given in sizes.items() if given is not None},
                implementations=args.cases,
                threads=args.threads,
            ),
            args.out,
            repeats=args.repeats or (2 if args.quick else 7),
            memory_gib=args.memory_gib,
            raw_dir=args.raw_dir,
            force=args.force,
            verbose=not args.json,
        )
    text = write_report(args.out)
    rows = list(read_rows(args.out).values())
    print(json.dumps(rows, indent=2, ensure_ascii=False) if args.json else text)


def _parser() -> Parser:
    parser = Parser(
        prog="benchmark.py", description="Measure speed and memory beside DGL's and PyG's layers."
    )
    parser.add_argument("--out", required=True, help="folder of the CSV, the tables and the plots")
    parser.add_argument("--graphs", nargs="+", metavar="G", help="datasets, or powerlaw[:N:E]")
    parser.add_argument("--widths", nargs="+", type=int, metavar="D", help="features per head")
    parser.add_argument("--depths", nargs="*", type=int, metavar="L", help="of the training steps")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="such as fused 'DGL GATConv'")
    parser.add_argument("--repeats", type=int, help="turns of a case (default: 7)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--memory-gib", type=float, help="of all processes (default: <= 16)")
    parser.add_argument("--quick", action="store_true", help="small graphs and two repeats")
    parser.add_argument("--force", action="store_true", help="measure again what is in the CSV")
    parser.add_argument("--report", action="store_true", help="only write tables and plots again")
    parser.add_raw_dir()
    parser.add_argument("--json", action="store_true", help="print JSON for a program")
    return parser
