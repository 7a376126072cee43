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
tools/scale.py edge_features --out results/scale/edge_features.csv
tools/scale.py stack --out results/scale/stack.csv
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.benchmark.batches import measure_batching
from lab.benchmark.dtypes import measure_dtypes
from lab.benchmark.edge_features import measure_edge_features
from lab.benchmark.large import measure_large
from lab.benchmark.mapped import measure_mapped
from lab.benchmark.modes import RECIPE, measure_modes
from lab.benchmark.needs import measure_needs
from lab.benchmark.passes import measure_inference, measure_malloc
from lab.benchmark.processes import measure_processes
from lab.benchmark.stacks import measure_stack
from lab.benchmark.structures import measure_structures
from lab.command_line import Parser, numbers, run_command


def _one(default: int, help: str | None = None) -> dict[str, Any]:
    return {"type": int, "default": default, "help": help}


def _many(*default: int, help: str | None = None) -> dict[str, Any]:
    return {"type": int, "nargs": "+", "default": [*default], "help": help}


def _measure_modes(file: Path, recipe: str, seeds: str, raw_dir: str | None) -> None:
    measure_modes(file, recipe, numbers("--seeds", seeds), raw_dir)


_NODES = _one(100_000)
#: What measures, what its help says, and its options, in the order in which it takes them.
KINDS: dict[str, tuple[Callable, str, dict[str, dict[str, Any]]]] = {
    "structure": (
        measure_structures,
        "bytes and nanoseconds an edge of the index",
        {"edges": _many(1_000_000, 5_000_000, help="sizes, 10 a node")},
    ),
    "inference": (
        measure_inference,
        "bytes a node of an evaluation pass",
        {"nodes": _NODES, "layers": _many(16, 64, help="depths")},
    ),
    "malloc": (
        measure_malloc,
        "bytes a node of a training step, by what malloc does",
        {"nodes": _NODES, "layers": _many(16, help="depths")},
    ),
    "large": (
        measure_large,
        "16 layers on graphs too large to train on at once",
        {"edges": _many(1_000_000, 5_000_000, 20_000_000, 100_000_000), "epochs": _one(1)},
    ),
    "batching": (
        measure_batching,
        "what an epoch in parts costs",
        {"nodes": _NODES, "layers": _many(2, 4, 16, help="depths")},
    ),
    "memory": (
        measure_needs,
        "what `lipzoo info` says a training needs, and takes; rows in the file are kept",
        {"nodes": _NODES},
    ),
    "processes": (
        measure_processes,
        "a step of several processes against one's",
        {
            "nodes": _NODES,
            "layers": _many(16, help="depths"),
            "processes": _many(2, help="how many"),
            "rate": {"help": "of the network between them, such as 1gbit (root)"},
        },
    ),
    "modes": (
        _measure_modes,
        "one recipe in full, in clusters, by several processes; rows in the file are kept",
        {
            "recipe": {"default": str(RECIPE), "help": "default: 16 layers on Physics"},
            "seeds": {"default": "0..4", "help": "such as 0..4 or 0,3"},
            "raw_dir": {},
        },
    ),
    "mapped": (
        measure_mapped,
        "what a pass holds of features that lie in a file",
        {"nodes": _one(1_000_000), "feats": _one(256)},
    ),
    "dtypes": (
        measure_dtypes,
        "what 16 bits a number save in time and memory",
        {"edges": _one(2_300_000, "14 a node")},
    ),
    "edge_features": (
        measure_edge_features,
        "a training step of a layer with edge features",
        {"nodes": _one(10_000, "10 edges each")},
    ),
    "stack": (
        measure_stack,
        "the closed-form stack by nodes and classes",
        {"nodes": _one(50_000, "10 edges each"), "classes": _many(10, 40, 100)},
    ),
}


def main() -> int:
    parser = Parser(prog="scale.py", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    for name, (_, words, options) in KINDS.items():
        kind = kinds.add_parser(name, help=words)
        kind.add_argument("--out", type=Path, required=True, help="the CSV file")
        for option, how in options.items():
            if option == "raw_dir":
                kind.add_raw_dir()
            else:
                kind.add_argument(f"--{option}", **how)
    args = parser.parse_args()
    measure, _, options = KINDS[args.kind]
    values = [getattr(args, option) for option in options]
    return run_command("scale.py", lambda: measure(args.out, *values), "the same command")


if __name__ == "__main__":
    sys.exit(main())
