#!/usr/bin/env python3
"""A training step of stacks of models: what training many at once saves.

tools/stack_speed.py --device cuda --raw-dir DIR
"""

import os
import statistics
import sys
from functools import partial

import torch

import lipzoo
from lab.benchmark.process import timed
from lab.command_line import Parser, run_command
from lipzoo.settings import FitSettings
from lipzoo.training.run_together import check_device
from lipzoo.training.stack import Stack


def main() -> int:
    """Print a row a size and backend."""
    parser = Parser(prog="stack_speed.py", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", default="minesweeper")
    parser.add_argument("--architecture", default="gat_lip_lin_15")
    parser.add_argument("--models", default="1,16,48,128")
    parser.add_argument("--backends", default="fused,torch")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_raw_dir()
    args = parser.parse_args()
    return run_command("stack_speed", lambda: _measure_all(args), "the same command")


def _measure_all(args) -> None:
    device = check_device(args.device)
    task = lipzoo.load_dataset(args.data, raw_dir=args.raw_dir)
    print("| models | backend | ms a step | ms a model | GiB |\n|---|---|---|---|---|")
    for size in map(int, args.models.split(",")):
        for backend in args.backends.split(","):
            seconds, memory = measure(args.architecture, task, size, backend, device, args.steps)
            cells = (size, backend, f"{1e3 * seconds:.1f}", f"{1e3 * seconds / size:.2f}", memory)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def measure(architecture, task, size, backend, device, steps) -> tuple[float, str]:
    """Median seconds of a step, and the peak of the GPU's memory."""
    os.environ["LIPZOO_BACKEND"] = backend
    is_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if is_gpu else lambda: None
    sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes}
    models = [lipzoo.create_model(architecture, **sizes) for _ in range(size)]
    if is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    stack = Stack(models, [task] * size, [FitSettings()] * size, device)

    def step(epoch: int) -> None:
        stack.train_epoch(epoch)
        wait()

    times = [timed(partial(step, epoch)) for epoch in range(1, steps + 3)]
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if is_gpu else "-"
    return statistics.median(times[2:]), memory


if __name__ == "__main__":
    sys.exit(main())
