#!/usr/bin/env python3
"""What a pass of converted weights takes beside lipzoo's backends, one thread, on their own graph.

tools/convert_speed.py gat_lip_lin_2.amazon_computers [--raw-dir DIR]

Seconds of the processor, not of the clock; the ways take turns.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lipzoo
from lab.benchmark.process import in_turns
from lab.command_line import Parser, run_command


def ways(name: str, folder: Path, raw_dir: str | None) -> dict[str, Callable[[], object]]:
    """A pass on all nodes, by each way; all hold the graph and the weights already."""
    import onnxruntime
    import torch

    from lipzoo.attention import as_structure

    card = lipzoo.load_pretrained(name).card
    task = lipzoo.load_dataset(card.dataset.name, raw_dir=raw_dir, **card.dataset.options)
    structure = as_structure(task.graph, add_self_loops=True)
    edges = torch.stack([structure.src, structure.dst])
    print(f"{name}: {task.num_nodes} nodes, {edges.shape[1]} edges with self-loops")

    def of_backend(backend: str) -> Callable[[], object]:
        model = lipzoo.load_pretrained(name, backend=backend)
        return lambda: model(task.graph, task.feat)

    made = {backend: of_backend(backend) for backend in ("fused", "dgl", "torch")}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = lipzoo.convert.to_onnx(name, folder / "file.onnx")
    session = onnxruntime.InferenceSession(file, options)
    inputs = {"feat": task.feat.numpy(), "edge_index": edges.numpy()}
    program = torch.export.load(lipzoo.convert.to_pt2(name, folder / "file.pt2")).module()
    return {
        **made,
        "onnx": lambda: session.run(None, inputs),
        "pt2": lambda: program(task.feat, edges),
    }


def measure(name: str, turns: int, raw_dir: str | None) -> None:
    """Print a line a way: the median, and how many times that of ``fused`` it is."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        passes = ways(name, Path(folder), raw_dir)
        seconds = in_turns(passes, turns, time.process_time)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    for way, median in medians.items():
        print(f"{way}: {median:.3g} s, {median / medians['fused']:.3g}x")


def main() -> int:
    parser = Parser(prog="convert_speed.py", description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="NAME", help="weights")
    parser.add_argument("--turns", type=int, default=7, metavar="N", help="passes that count")
    parser.add_raw_dir()
    args = parser.parse_args()
    return run_command(
        "convert_speed", lambda: measure(args.name, args.turns, args.raw_dir), "the same command"
    )


if __name__ == "__main__":
    sys.exit(main())
