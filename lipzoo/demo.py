"""The main job on embedded data: load by name, evaluate, fine-tune, save, load again."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lipzoo._output import OutputFolder
from lipzoo._writing import one_writer
from lipzoo.datasets import load_dataset
from lipzoo.registry import load_pretrained
from lipzoo.training import evaluate, finetune

__all__ = ["run_demo"]

NAME, TARGET = "gat_lip_16.digits", "breast_cancer"


@one_writer
def run_demo(
    out: str | os.PathLike, overwrite: bool = False, verbose: bool = True
) -> dict[str, Any]:
    """Run the demo, print what is done, and return its figures; its files go into ``out``.

    Raises
    ------
    OutputError
        If ``out`` holds something and ``overwrite`` is false, or another process writes there.
    """
    say = print if verbose else _nothing
    begin = time.perf_counter()
    folder = OutputFolder(out).prepare(overwrite)

    model = load_pretrained(NAME)
    card = model.card
    say(f"1. Loaded {NAME}: {model.num_layers} attention layers, from {model.pretrained_folder}")

    task = load_dataset(card.dataset.name, **card.dataset.options)
    measured = evaluate(model, task)["test_accuracy"]
    say(f"2. Evaluated it on {task}")
    over_seeds = card.metrics["test_accuracy"]
    said = card.weights.metrics["test_accuracy"]
    say(
        f"   test accuracy {measured:.4f}; the card says {said:.4f} for these weights, "
        f"{over_seeds.mean:.4f} ± {over_seeds.std:.4f} over {len(over_seeds.values)} seeds"
    )

    new_task = load_dataset(TARGET)
    say(f"3. Fine-tuning it on {new_task}")
    result = finetune(
        NAME,
        new_task,
        epochs=100,
        out=folder / f"finetuned.{TARGET}",
        overwrite=overwrite,
        verbose=False,
    )
    say(
        f"   kept {len(result.kept)} layer groups, freshly initialised: "
        f"{', '.join(result.replaced)}; best epoch {result.best_epoch}: validation accuracy "
        f"{result.metrics['val_accuracy']:.4f}, test accuracy {result.metrics['test_accuracy']:.4f}"
    )

    again = evaluate(load_pretrained(result.folder), new_task)["test_accuracy"]
    say(f"4. Saved it, loaded it back: test accuracy {again:.4f}")
    files = sorted(filter(Path.is_file, result.folder.iterdir()))
    for path in files:
        say(f"   {path} ({path.stat().st_size:,} bytes)")
    return {
        "name": NAME,
        "evaluated": {"dataset": task.name, "test_accuracy": measured, "on_the_card": said},
        "finetuned": {
            "dataset": new_task.name,
            "kept": result.kept,
            "replaced": result.replaced,
            "best_epoch": result.best_epoch,
            "metrics": result.metrics,
        },
        "loaded_again": {"test_accuracy": again},
        "files": [str(path) for path in files],
        "seconds": time.perf_counter() - begin,
    }


def _nothing(line: str) -> None:
    """Instead of ``print``, where a program reads."""
