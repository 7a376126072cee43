"""``lipzoo partition``."""

from __future__ import annotations

import argparse
import typing

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json, add_metric, add_out, add_progress, add_raw_dir

HELP = "cut data into parts, one for each process of a training"

GOES_ON = "the same command with --overwrite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from lipzoo.settings import Engine

    add_json(parser)
    parser.add_argument("data", metavar="D", help="a dataset's name, or the path of a graph")
    parser.add_argument("--parts", type=int, metavar="P", required=True, help="how many")
    parser.add_argument(
        "--data-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="option of load_dataset, as the recipe has it",
    )
    parser.add_argument(
        "--engine",
        choices=typing.get_args(Engine),
        default="torchrun",
        help="what trains on them: processes that exchange rows in each layer, or DistDGL, which "
        "samples",
    )
    add_metric(parser)
    add_raw_dir(parser)
    add_out(parser, "folder of the parts")
    add_progress(parser)


def run(args: argparse.Namespace) -> None:
    from lipzoo.cli.options import data_options, load_task
    from lipzoo.training.ranks_parts import write_parts

    task = load_task(args)
    asked = {"name": args.data, **data_options(args)}
    facts = write_parts(
        task, asked, args.parts, args.out, overwrite=args.overwrite, engine=args.engine
    )
    lines = [
        f"part {rank}: {nodes:,} nodes, {halo:,} of others, {edges:,} edges"
        for rank, (nodes, halo, edges) in enumerate(facts["nodes_halo_edges"])
    ]
    start, engine = f"torchrun --nproc-per-node {args.parts} -m lipzoo.cli", ""
    if args.engine == "distdgl":
        start, engine = "lipzoo", "--engine distdgl "
    lines.append(f"then: {start} train RECIPE {engine}--parts {args.out} --out DIR")
    show(args, facts, "\n".join(lines))
