#!/usr/bin/env python3
"""What graphs cost as they grow.

tools/scale.py structure --out results/scale/structure.csv
tools/scale.py inference --out results/scale/inference.csv
tools/scale.py malloc --out results/scale/malloc.csv
tools/scale.py large --out results/scale/large.csv
tools/scale.py batching --out results/scale/batching.csv
tools/scale.py memory --out results/scale/memory.csv
tools/scale.py processes --out results/scale/processes.csv
tools/scale.py modes --out results/scale/modes.csv --raw-dir DIR
tools/scale.py mapped --out results/scale/mapped.csv
tools/scale.py dtypes --out results/scale/dtypes.csv
"""

import sys
from pathlib import Path

from lab.benchmark.batches import measure_batching
from lab.benchmark.dtypes import measure_dtypes
from lab.benchmark.large import measure_large
from lab.benchmark.mapped import measure_mapped
from lab.benchmark.modes import RECIPE, measure_modes
from lab.benchmark.needs import measure_needs
from lab.benchmark.passes import measure_inference, measure_malloc
from lab.benchmark.processes import measure_processes
from lab.benchmark.structures import measure_structures
from lab.command_line import Parser, numbers, run_command


def main() -> int:
    parser = Parser(prog="scale.py", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    structure = kinds.add_parser("structure", help="bytes and nanoseconds an edge of the index")
    structure.add_argument("--out", type=Path, required=True, help="the CSV file")
    structure.add_argument(
        "--edges", type=int, nargs="+", default=[1_000_000, 5_000_000], help="sizes, 10 a node"
    )
    structure.set_defaults(measure=lambda args: measure_structures(args.out, args.edges))
    large = kinds.add_parser("large", help="16 layers on graphs too large to train on at once")
    large.add_argument("--out", type=Path, required=True, help="the CSV file")
    large.add_argument(
        "--edges", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000, 100_000_000]
    )
    large.add_argument("--epochs", type=int, default=1)
    large.set_defaults(measure=lambda args: measure_large(args.out, args.edges, args.epochs))
    for name, measure, words, depths in (
        ("inference", measure_inference, "bytes a node of an evaluation pass", [16, 64]),
        ("malloc", measure_malloc, "bytes a node of a training step, by what malloc does", [16]),
        ("batching", measure_batching, "what an epoch in parts costs", [2, 4, 16]),
    ):
        passes = kinds.add_parser(name, help=words)
        passes.add_argument("--out", type=Path, required=True, help="the CSV file")
        passes.add_argument("--nodes", type=int, default=100_000)
        passes.add_argument("--layers", type=int, nargs="+", default=depths, help="depths")
        passes.set_defaults(
            measure=lambda args, measure=measure: measure(args.out, args.nodes, args.layers)
        )
    processes = kinds.add_parser("processes", help="a step of several processes against one's")
    processes.add_argument("--out", type=Path, required=True, help="the CSV file")
    processes.add_argument("--nodes", type=int, default=100_000)
    processes.add_argument("--layers", type=int, nargs="+", default=[16], help="depths")
    processes.add_argument("--processes", type=int, nargs="+", default=[2], help="how many")
    processes.add_argument("--rate", help="of the network between them, such as 1gbit (root)")
    processes.set_defaults(
        measure=lambda args: measure_processes(
            args.out, args.nodes, args.layers, args.processes, args.rate
        )
    )
    needs = kinds.add_parser("memory", help="what `lipzoo info` says a training needs, and takes")
    needs.add_argument("--out", type=Path, required=True, help="the CSV file; rows in it are kept")
    needs.add_argument("--nodes", type=int, default=100_000)
    needs.set_defaults(measure=lambda args: measure_needs(args.out, args.nodes))
    modes = kinds.add_parser("modes", help="one recipe in full, in clusters, by several processes")
    modes.add_argument("--out", type=Path, required=True, help="the CSV file; rows in it are kept")
    modes.add_argument("--recipe", default=str(RECIPE), help="default: 16 layers on Physics")
    modes.add_argument("--seeds", default="0..4", help="such as 0..4 or 0,3")
    modes.add_raw_dir()
    modes.set_defaults(
        measure=lambda args: measure_modes(
            args.out, args.recipe, numbers("--seeds", args.seeds), args.raw_dir
        )
    )
    mapped = kinds.add_parser("mapped", help="what a pass holds of features that lie in a file")
    mapped.add_argument("--out", type=Path, required=True, help="the CSV file")
    mapped.add_argument("--nodes", type=int, default=1_000_000)
    mapped.add_argument("--feats", type=int, default=256)
    mapped.set_defaults(measure=lambda args: measure_mapped(args.out, args.nodes, args.feats))
    dtypes = kinds.add_parser("dtypes", help="what 16 bits a number save in time and memory")
    dtypes.add_argument("--out", type=Path, required=True, help="the CSV file")
    dtypes.add_argument("--edges", type=int, default=2_300_000, help="14 a node")
    dtypes.set_defaults(measure=lambda args: measure_dtypes(args.out, args.edges))
    args = parser.parse_args()
    return run_command("scale.py", lambda: args.measure(args), "the same command")


if __name__ == "__main__":
    sys.exit(main())
