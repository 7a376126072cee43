#!/usr/bin/env python3
"""A training step of stacks of models: what training many at once saves.

tools/stack_speed.py --device cuda --raw-dir DIR
"""

import argparse
import os
import statistics
import sys
import time

import torch

import lipzoo
from lipzoo.errors import ConfigError
from lipzoo.settings import FitSettings
from lipzoo.training.run_together import check_device
from lipzoo.training.stack import Stack


def main() -> int:
    """Print a row a size and backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", default="minesweeper")
    parser.add_argument("--architecture", default="gat_lip_lin_15")
    parser.add_argument("--models", default="1,16,48,128")
    parser.add_argument("--backends", default="fused,torch")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--raw-dir")
    args = parser.parse_args()
    try:
        device = check_device(args.device)
        task = lipzoo.load_dataset(args.data, raw_dir=args.raw_dir)
    except ConfigError as fault:
        print(f"stack_speed: {fault}", file=sys.stderr)
        return 2
    print("| models | backend | ms a step | ms a model | GiB |\n|---|---|---|---|---|")
    for size in map(int, args.models.split(",")):
        for backend in args.backends.split(","):
            seconds, memory = measure(args.architecture, task, size, backend, device, args.steps)
            cells = (size, backend, f"{1e3 * seconds:.1f}", f"{1e3 * seconds / size:.2f}", memory)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return 0


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
    times = []
    for epoch in range(1, steps + 3):
        wait()
        began = time.perf_counter()
        stack.train_epoch(epoch)
        wait()
        times.append(time.perf_counter() - began)
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if is_gpu else "-"
    return statistics.median(times[2:]), memory


if __name__ == "__main__":
    sys.exit(main())
