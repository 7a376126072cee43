"""What sharp attention does to the gradients of a deep network, with and without LipschitzNorm."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from lab.command_line import Parser, run_command
from lab.engine import made_with
from lab.studies import plots
from lab.studies.worker import gradient_norms
from lipzoo._atomic import write_all
from lipzoo._output import OutputFolder
from lipzoo._tables import to_csv
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.registry import create_model

__all__ = ["gradients_at_scale", "main"]

MODELS = {"GAT": "gat_2", "GAT+LipschitzNorm": "gat_lip_2"}


def gradients_at_scale(
    task: GraphTask, architecture: str, scale: float, seed: int, num_layers: int = 30, **arguments
) -> tuple[float, float]:
    """Gradient norms at the outputs of the first and the last layer of an untrained GAT.

    Its attention vectors are multiplied by ``scale``, as a training that sharpens the attention
    does little by little; nothing else is changed.

    The loss is that of the training nodes, without dropout; ``arguments`` are those of
    :class:`~lipzoo.models.DeepGAT`; a scale of 1 leaves the initialisation as it is.
    """
    torch.manual_seed(seed)
    sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes}
    model = create_model(architecture, **sizes, num_layers=num_layers, **arguments)
    with torch.no_grad():
        for layer in model.layers:
            layer.attn_l.mul_(scale)
            layer.attn_r.mul_(scale)
    _, norms = gradient_norms(model, task)
    return norms[0][1], norms[-1][1]


def main(argv: list[str] | None = None) -> int:
    """The command line of ``tools/attention_scale.py``."""
    parser = Parser(prog="attention_scale.py", description=__doc__)
    parser.add_argument("--data", default="cora", help="a dataset's name or path")
    parser.add_argument("--out", type=Path, required=True, help="folder of attention_scale.*")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5, help="how many: 0 to n-1")
    parser.add_raw_dir()
    args = parser.parse_args(argv)
    return run_command("attention_scale", lambda: _measure(args), "the same command")


def _measure(args: argparse.Namespace) -> None:
    folder = OutputFolder(args.out).prepare(overwrite=True)
    task = load_dataset(args.data, raw_dir=args.raw_dir)
    rows, lines = [], {}
    for model, architecture in MODELS.items():
        for scale in (1, 3, 10, 30, 100, 300, 1000):
            found = [
                gradients_at_scale(task, architecture, scale, seed, args.layers)
                for seed in range(args.seeds)
            ]
            # Geometric means: over the seeds these norms spread by factors.
            first, last = (math.exp(sum(map(math.log, v)) / len(v)) for v in zip(*found))
            lines.setdefault(model, []).append((scale, first / last))
            rows.append(
                {
                    "model": model,
                    "layers": args.layers,
                    "scale": scale,
                    "seeds": args.seeds,
                    "first": f"{first:.4g}",
                    "last": f"{last:.4g}",
                    "first_over_last": f"{first / last:.4g}",
                    **made_with(),
                }
            )
            print(rows[-1], flush=True)
    title = f"Gradients of {args.layers} untrained layers on {task.name}"
    files = {"attention_scale.csv": to_csv(rows)}
    files |= plots.gradients_by_scale(lines, title, "attention_scale")
    write_all({folder / name: data for name, data in files.items()})
