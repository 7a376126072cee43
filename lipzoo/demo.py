"""The main job on embedded data: load by name, evaluate, fine-tune, save, load again."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lipzoo._output import OutputFolder
from lipzoo._writing import one_writer
from lipzoo.datasets import load_dataset
from lipzoo.registry import load_pretrained
from lipzoo.training import evaluate, finetune

__all__ = ["run_demo"]

NAME, TARGET = "gat_lip_16.digits", "breast_cancer"


@one_writer
def run_demo(out: str | os.PathLike, overwrite: bool = False) -> None:
    """Run the demo and print what was done; its files go into ``out``.

    Raises
    ------
    OutputError
        If ``out`` holds something and ``overwrite`` is false, or another process writes there.
    """
    begin = time.perf_counter()
    folder = OutputFolder(out).prepare(overwrite)

    model = load_pretrained(NAME)
    card = model.card
    print(f"1. Loaded {NAME}: {model.num_layers} attention layers, from {model.pretrained_folder}")

    task = load_dataset(card.dataset.name, **card.dataset.options)
    measured = evaluate(model, task)["test_accuracy"]
    print(f"2. Evaluated it on {task}")
    over_seeds = card.metrics["test_accuracy"]
    print(
        f"   test accuracy {measured:.4f}; the card says "
        f"{card.weights.metrics['test_accuracy']:.4f} for these weights, "
        f"{over_seeds.mean:.4f} ± {over_seeds.std:.4f} over {len(over_seeds.values)} seeds"
    )

    new_task = load_dataset(TARGET)
    print(f"3. Fine-tuning it on {new_task}")
    result = finetune(
        NAME,
        new_task,
        epochs=100,
        out=folder / f"finetuned.{TARGET}",
        overwrite=overwrite,
        verbose=False,
    )
    print(
        f"   kept {len(result.kept)} layer groups, freshly initialised: "
        f"{', '.join(result.replaced)}; best epoch {result.best_epoch}: validation accuracy "
        f"{result.metrics['val_accuracy']:.4f}, test accuracy {result.metrics['test_accuracy']:.4f}"
    )

    again = evaluate(load_pretrained(result.folder), new_task)["test_accuracy"]
    print(f"4. Saved it, loaded it back: test accuracy {again:.4f}")
    for path in sorted(filter(Path.is_file, result.folder.iterdir())):
        print(f"   {path} ({path.stat().st_size:,} bytes)")
    print(f"Done in {time.perf_counter() - begin:.0f} s.")
