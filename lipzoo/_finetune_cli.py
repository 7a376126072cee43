"""``lipzoo finetune`` and ``lipzoo predict``: parse, call, print."""

from __future__ import annotations

import argparse

import lipzoo
from lipzoo._schema import argument_names
from lipzoo.errors import ConfigError

__all__ = ["add_finetune_arguments", "run_finetune", "run_predict"]


def add_finetune_arguments(sub: argparse.ArgumentParser) -> None:
    """What ``finetune`` takes beside the name, the data and ``--out``."""
    sub.add_argument("--resume", action="store_true", help="go on with one that was stopped")
    sub.add_argument(
        "--warm-start",
        action="store_true",
        help="let the head begin as a logistic regression on what the body gives",
    )
    sub.add_argument("--freeze", default="none", help="none, body or all-but-head")
    sub.add_argument(
        "--unfreeze-every",
        type=int,
        metavar="EPOCHS",
        help="thaw what is frozen, a layer every so many epochs, from the head downwards",
    )
    sub.add_argument(
        "--layer-lr-decay",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="of the learning rate, for each layer below the head, such as 0.9",
    )
    sub.add_argument(
        "--class-weight", metavar="W", help="balanced, or a number a class, such as 1,1,2.5"
    )
    sub.add_argument("--epochs", type=int, default=200)
    sub.add_argument("--lr", type=float, default=0.005)
    sub.add_argument("--weight-decay", type=float, default=5e-4)
    sub.add_argument("--patience", type=int, default=50, help="epochs without improvement")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--save-every", type=int, default=20, metavar="EPOCHS", help="between two saved states"
    )
    sub.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="argument of the model class, such as feat_drop=0.2",
    )


def run_finetune(args: argparse.Namespace, load_task, show) -> None:
    """Fine-tune ``args.name`` on the data that ``load_task(args)`` gives."""
    from lipzoo.training.recipe import apply_change

    overrides: dict = {}
    for change in args.set:
        apply_change(overrides, change)
    taken = [key for key in overrides if key in argument_names(lipzoo.finetune)]
    if taken:
        raise ConfigError(f"--set {taken[0]}: is no argument of the model class; see --help")
    class_weight = _class_weight(args.class_weight)
    task = load_task(args)
    result = lipzoo.finetune(
        args.name,
        task,
        warm_start=args.warm_start,
        freeze=args.freeze,
        unfreeze_every=args.unfreeze_every,
        layer_lr_decay=args.layer_lr_decay,
        class_weight=class_weight,
        epochs=args.epochs,
        lr=args.lr,
        weight_decay=args.weight_decay,
        patience=args.patience,
        seed=args.seed,
        out=args.out,
        overwrite=args.overwrite,
        resume=args.resume,
        save_every=args.save_every,
        verbose=not args.quiet and not args.json,
        **overrides,
    )
    facts = {
        "name": args.name,
        "dataset": task.name,
        "metrics": result.metrics,
        "best_epoch": result.best_epoch,
        "kept": result.kept,
        "replaced": result.replaced,
        "out": str(result.folder),
    }
    lines = [
        f"kept: {', '.join(result.kept)}; freshly initialised: {', '.join(result.replaced) or '-'}",
        *(f"  {name:<16} {value:.4f}" for name, value in result.metrics.items()),
        f"written to {result.folder}; lipzoo predict {result.folder} --data … --out FILE.csv",
    ]
    show(args, facts, "\n".join(lines))


def _class_weight(text: str | None) -> str | list[float] | None:
    """``1,1,2.5`` as numbers; a word as it is."""
    if text is None or text[:1].isalpha():
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--class-weight {text}: must be balanced, or a number a class, such as 1,1,2.5"
        ) from None


def run_predict(args: argparse.Namespace, load_task) -> None:
    """Write what ``args.name`` predicts on the data that ``load_task(args, …)`` gives."""
    from lipzoo.training.predict import (
        is_multilabel,
        node_ids,
        predict,
        predictions_file,
        write_predictions,
    )

    with predictions_file(args.out, args.overwrite):  # before the work, not after it
        model = lipzoo.load_pretrained(args.name)
        task = load_task(args, model.card, require_labels=False)
        path = write_predictions(
            args.out,
            predict(model, task),
            is_multilabel(model, task),
            args.overwrite,
            nodes=node_ids(task),
        )
    print(f"{task.num_nodes} nodes written to {path}")
