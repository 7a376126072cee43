"""What reversible depth costs and saves, and what rounding does to its gradients."""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.benchmark.graphs import load_graph, read_graph, save_graph
from lab.benchmark.process import apart, in_turns, peak_of, resident, trim
from lab.command_line import Parser, numbers, run_command
from lab.engine import made_with
from lab.studies import plots
from lipzoo._atomic import write_all
from lipzoo._output import OutputFolder
from lipzoo._tables import to_csv
from lipzoo.attention import Structure, as_structure
from lipzoo.registry import create_model, get_architecture

__all__ = ["gradient_errors", "main", "memory_of", "time_of"]

ARCHITECTURE = "gat_lip_rev_16"
#: What autograd keeps: nothing between the layers, what is between them, all.
WAYS = ("reversible", "checkpoint_layers", "plain")
SCALES = (1, 3, 10, 30, 100, 300, 1000)
WIDTH, CLASSES = 64, 10
#: glibc keeps what is freed below this size for later: with it, what a process holds is what is in
#: use, and each allocation is slower.
_GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def make(way: str, num_layers: int, seed: int = 0, **overrides: Any) -> nn.Module:
    """A network of the family, 64 wide, that keeps what ``way`` says."""
    residual = get_architecture(ARCHITECTURE).args["residual"]
    torch.manual_seed(seed)
    return create_model(
        ARCHITECTURE,
        in_feats=WIDTH,
        num_classes=CLASSES,
        num_layers=num_layers,
        residual={**residual, "keep_states": way != "reversible"},
        checkpoint_layers=way == "checkpoint_layers",
        **overrides,
    )


def task_of(structure: Structure, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (N, 64) from a normal distribution, and labels that say nothing."""
    generator = torch.Generator().manual_seed(seed)
    feat = torch.randn(structure.num_src, WIDTH, generator=generator)
    return feat, torch.randint(CLASSES, (structure.num_src,), generator=generator)


# ------------------------------------------------------------------------------ memory and time


def memory_of(graph: Path, num_layers: int) -> dict[str, dict[str, float | None]]:
    """Bytes a node that a step of training holds, in this process, each way; None away from Linux.

    ``kept`` between forward and backward pass, ``peak`` at most, above what is held between steps.
    """
    structure = as_structure(read_graph(graph))
    return {way: _memory_of(structure, make(way, num_layers)) for way in WAYS}


def _memory_of(structure: Structure, model: nn.Module) -> dict[str, float | None]:
    feat, labels = task_of(structure)
    found: dict[str, int | None] = {}

    def held() -> int | None:
        trim()
        return resident()

    def step() -> None:
        loss = F.cross_entropy(model(structure, feat), labels)
        found["kept"] = held()
        loss.backward()

    step()
    before = held()
    _, found["peak"] = peak_of(step)
    return {
        name: None if None in (before, size) else (size - before) * 1024 / structure.num_src
        for name, size in found.items()
    }


def time_of(graph: Path, num_layers: int, repeats: int) -> dict[str, float]:
    """Processor seconds of a training step on one thread, the ways in turns, the least of each."""
    structure = as_structure(read_graph(graph))
    feat, labels = task_of(structure)

    def step(model: nn.Module) -> None:
        F.cross_entropy(model(structure, feat), labels).backward()

    steps = {way: partial(step, make(way, num_layers)) for way in WAYS}
    found = in_turns(steps, repeats, time.process_time)
    return {way: min(seconds) for way, seconds in found.items()}


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _memory_rows(args: argparse.Namespace, depths: list[int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.npz"
        loaded = load_graph(args.graph, args.raw_dir)
        save_graph(loaded, graph)
        for depth in depths:
            seconds = apart(time_of, graph, depth, args.repeats)
            with _environment(_GIVEN_BACK):
                memory = apart(memory_of, graph, depth)
            for way in WAYS:
                rows.append(
                    {
                        "graph": args.graph,
                        "nodes": loaded.num_nodes(),
                        "edges": loaded.num_edges(),
                        "layers": depth,
                        "keeps": way,
                        **{
                            f"{name}_bytes_per_node": "" if size is None else f"{size:.0f}"
                            for name, size in memory[way].items()
                        },
                        "cpu_seconds": f"{seconds[way]:.3f}",
                        "times_plain": f"{seconds[way] / seconds['plain']:.2f}",
                        **made_with(),
                    }
                )
                print(rows[-1], flush=True)
    return rows


# ----------------------------------------------------------------------------------- rounding


def gradient_errors(
    structure: Structure, num_layers: int, scale: float, seed: int, **overrides: Any
) -> dict[str, float]:
    """How far the gradients of all parameters in float32 are from those of the plain network in
    float64, over the length of these: ``reversible`` and ``plain``.

    An untrained network without dropout, the attention vectors multiplied by ``scale``.
    """
    feat, labels = task_of(structure, seed)
    model = make("plain", num_layers, seed, **overrides).eval()
    with torch.no_grad():
        for layer in model.layers:
            layer.attn_l.mul_(scale)
            layer.attn_r.mul_(scale)

    def gradients(network: nn.Module, feat: Tensor) -> Tensor:
        loss = F.cross_entropy(network(structure, feat), labels)
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        return torch.cat([slope.double().flatten() for slope in slopes])

    exact = gradients(copy.deepcopy(model).double(), feat.double())
    found = {}
    for way in ("reversible", "plain"):
        model.residual.keep_states = way == "plain"
        found[way] = ((gradients(model, feat) - exact).norm() / exact.norm()).item()
    return found


def _rounding_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    structure = as_structure(load_graph(args.rounding_graph, args.raw_dir))
    rows: list[dict[str, Any]] = []
    for feature_norm in (None, "layernorm"):
        for score_norm in ("lipschitz", None):
            options = {"feature_norm": feature_norm, "score_norm": score_norm}
            for scale in SCALES:
                errors = [
                    gradient_errors(structure, args.layers, scale, seed, **options)
                    for seed in range(args.seeds)
                ]
                means = {
                    way: statistics.geometric_mean(error[way] for error in errors)
                    for way in errors[0]
                }
                rows.append(
                    {
                        "graph": args.rounding_graph,
                        "layers": args.layers,
                        **{name: value or "none" for name, value in options.items()},
                        "scale": scale,
                        "seeds": args.seeds,
                        **{f"{way}_error": f"{mean:.3g}" for way, mean in means.items()},
                        **made_with(),
                    }
                )
                print(rows[-1], flush=True)
    return rows


# ------------------------------------------------------------------------------- command line


def main(argv: list[str] | None = None) -> int:
    """The command line of ``tools/reversible.py``."""
    parser = Parser(prog="reversible.py", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and plots")
    parser.add_argument(
        "--only", choices=["memory", "rounding"], help="one of the two; what is there stays"
    )
    parser.add_argument("--graph", default="amazon_computers", help="or powerlaw[:N:E]")
    parser.add_argument("--depths", default="16,32,64,128", help="such as 16,32")
    parser.add_argument("--repeats", type=int, default=2, help="timed steps")
    parser.add_argument("--rounding-graph", default="powerlaw:2000:20000")
    parser.add_argument("--layers", type=int, default=64, help="of the networks that round")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0 to n-1")
    parser.add_raw_dir()
    args = parser.parse_args(argv)
    return run_command("reversible", lambda: _measure(args), "the same command")


def _measure(args: argparse.Namespace) -> None:
    depths = numbers("--depths", args.depths)
    folder = OutputFolder(args.out).prepare(overwrite=True)
    if args.only != "memory":
        rows = _rounding_rows(args)
        title = f"Gradients of {args.layers} reversible layers in float32, {args.rounding_graph}"
        files = {"rounding.csv": to_csv(rows), **plots.rounding_by_scale(rows, title, "rounding")}
        write_all({folder / name: data for name, data in files.items()})
    if args.only != "rounding":
        rows = _memory_rows(args, depths)
        title = f"Training on {args.graph}, {WIDTH} wide"
        files = {"memory.csv": to_csv(rows), **plots.memory_by_depth(rows, title, "memory")}
        write_all({folder / name: data for name, data in files.items()})
