"""``lipzoo finetune``."""

from __future__ import annotations

import argparse

from lipzoo._tables import figure_lines
from lipzoo.cli.command import show
from lipzoo.cli.options import (
    add_batching,
    add_data,
    add_json,
    add_metric,
    add_name,
    add_out,
    add_progress,
    add_settings,
    batching_of,
    load_task,
    verbosity,
)
from lipzoo.errors import ConfigError

HELP = "put pretrained weights on another graph"
GOES_ON = "the same command with --resume"

#: Settings that are options.
_SETTINGS = (
    "warm_start",
    "freeze",
    "unfreeze_every",
    "layer_lr_decay",
    "epochs",
    "optimizer.lr",
    "optimizer.weight_decay",
    "early_stopping.patience",
    "seed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from lipzoo.settings import SAVE_EVERY, FinetuneSettings

    add_json(parser)
    add_name(parser)
    add_data(parser, "data to train on", required=True)
    add_metric(parser)
    add_out(parser, "folder of the checkpoint")
    parser.add_argument("--resume", action="store_true", help="go on with one that was stopped")
    parser.set_defaults(settings=add_settings(parser, FinetuneSettings, _SETTINGS))
    add_batching(parser, "full")
    parser.add_argument(
        "--start",
        metavar="S",
        help="begin from what the training labels say: stack, context (or weights in context), or "
        "auto, the better of both on the validation nodes",
    )
    parser.add_argument(
        "--class-weight", metavar="W", help="balanced, or a number a class, such as 1,1,2.5"
    )
    parser.add_argument(
        "--save-every",
        type=int,
        metavar="N",
        default=SAVE_EVERY,
        help="epochs between two saved states",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="argument of the model class, such as feat_drop=0.2",
    )
    add_progress(parser)


def run(args: argparse.Namespace) -> None:
    from lipzoo._schema import argument_names
    from lipzoo.training import finetune
    from lipzoo.training.recipe import apply_changes

    overrides = apply_changes({}, args.set)
    taken = [key for key in overrides if key in argument_names(finetune)]
    if taken:
        raise ConfigError(f"--set {taken[0]}: is no argument of the model class; see --help")
    class_weight = _class_weight(args.class_weight)
    task = load_task(args)
    result = finetune(
        args.name,
        task,
        **{name: getattr(args, name) for name in args.settings},
        start=args.start,
        batching=batching_of(args),
        class_weight=class_weight,
        out=args.out,
        overwrite=args.overwrite,
        resume=args.resume,
        save_every=args.save_every,
        verbose=verbosity(args),
        **overrides,
    )
    facts = {
        "name": result.model.card.recipe["finetuned_from"],
        "dataset": task.name,
        "metrics": result.metrics,
        "best_epoch": result.best_epoch,
        "kept": result.kept,
        "replaced": result.replaced,
        "only_class": result.only_class,
        "out": str(result.folder),
    }
    lines = [
        f"kept: {', '.join(result.kept)}; freshly initialised: {', '.join(result.replaced) or '-'}",
        *figure_lines({name: (value, 0.0, 1) for name, value in result.metrics.items()}),
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
