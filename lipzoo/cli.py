"""The command line: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import lipzoo
from lipzoo._certify_cli import add_certify_arguments
from lipzoo._finetune_cli import add_finetune_arguments
from lipzoo._yaml import parse_yaml
from lipzoo.errors import ConfigError, LipzooError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lipzoo ARGV`` and return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    warnings.showwarning = _show_warning
    try:
        args.run(args)
    except LipzooError as fault:
        print(f"lipzoo: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lipzoo: stopped; --resume goes on with a training", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `lipzoo list | head`
        sys.stderr.close()
    return 0


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    if issubclass(category, UserWarning):
        print(f"lipzoo: note: {message}", file=sys.stderr)


# --------------------------------------------------------------- commands


def _list(args: argparse.Namespace) -> None:
    names = lipzoo.list_models(args.pattern, pretrained=args.pretrained)
    _print(args, names, "\n".join(names))


def _info(args: argparse.Namespace) -> None:
    from lipzoo.info import describe

    facts, text = describe(args.name)
    _print(args, facts, text)


def _train(args: argparse.Namespace) -> None:
    from lipzoo.training import load_recipe, train
    from lipzoo.training.recipe import parse_seeds

    try:
        seeds = parse_seeds(args.seeds) if args.seeds is not None else None
    except ValueError as fault:
        raise ConfigError(f"--seeds: {fault}") from None
    summary = train(
        load_recipe(args.recipe, args.set),
        args.out,
        seeds=seeds,
        resume=args.resume,
        overwrite=args.overwrite,
        baselines=args.baselines,
        jobs=args.jobs,
        raw_dir=args.raw_dir,
        verbose=not args.quiet and not args.json,
    )
    _print(args, summary, _summary_text(summary) + f"\nlipzoo export {args.out} writes the weights")


def _evaluate(args: argparse.Namespace) -> None:
    from lipzoo.training import evaluate

    model = lipzoo.load_pretrained(args.name)
    task = _task(args, model.card)
    metrics = evaluate(model, task)
    facts = {"name": model.card.full_name, "dataset": task.name, "metrics": metrics}
    lines = [f"{facts['name']} on {task.name}", *_metric_lines(metrics)]
    if args.data is None and task.fingerprint != model.card.dataset.fingerprint:
        warnings.warn("the data is not what the card's figures were measured on", stacklevel=1)
    _print(args, facts, "\n".join(lines))


def _finetune(args: argparse.Namespace) -> None:
    from lipzoo._finetune_cli import run_finetune

    run_finetune(args, _task, _print)


def _predict(args: argparse.Namespace) -> None:
    from lipzoo._finetune_cli import run_predict

    run_predict(args, _task)


def _export(args: argparse.Namespace) -> None:
    from lipzoo.training import export_run

    folder = export_run(args.run_dir, args.out, overwrite=args.overwrite, raw_dir=args.raw_dir)
    _print(args, {"folder": str(folder)}, f"written to {folder}")


def _certify(args: argparse.Namespace) -> None:
    from lipzoo._certify_cli import run_certify

    run_certify(args, _task, _print)


def _new(args: argparse.Namespace) -> None:
    from lipzoo.scaffold import new_architecture

    files = [str(path) for path in new_architecture(args.name, args.out)]
    folder, recipe, test = args.out or args.name, files[1], files[2]
    lines = [
        *(f"written: {path}" for path in files),
        f"try it: pytest {test}",
        f"then: LIPZOO_CONFIG_PATH={folder} lipzoo train {recipe} --out runs/{args.name}",
    ]
    _print(args, {"files": files}, "\n".join(lines))


def _push(args: argparse.Namespace) -> None:
    from lipzoo.hub.huggingface import push_to_hub

    private = True if args.private else None
    url = push_to_hub(args.name, args.repo_id, private=private, revision=args.revision)
    loads = f"hf-hub:{args.repo_id}" + (f"@{args.revision}" if args.revision else "")
    facts = {"commit": url, "name": loads}
    _print(args, facts, f"pushed: {url}\nlipzoo evaluate {loads}")


def _demo(args: argparse.Namespace) -> None:
    from lipzoo.demo import run_demo

    run_demo(args.out, overwrite=args.overwrite)


# ---------------------------------------------------------------- helpers


def _task(args: argparse.Namespace, card=None, require_labels: bool = True):
    """The task that ``--data`` names, or the one on the card."""
    options: dict[str, Any] = {}
    name = args.data
    if name is None:
        name, options = card.dataset.name, dict(card.dataset.options)
    for pair in args.data_option:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--data-option {pair}: must look like key=value")
        options[key] = parse_yaml(value)
    from lipzoo._schema import check_arguments

    check_arguments(lipzoo.load_dataset, options, where="--data-option")
    options.setdefault("require_labels", require_labels)
    return lipzoo.load_dataset(name, raw_dir=args.raw_dir, **options)


def _print(args: argparse.Namespace, facts: Any, text: str) -> None:
    print(json.dumps(facts, indent=2, ensure_ascii=False) if args.json else text)


def _metric_lines(metrics: dict[str, float]) -> list[str]:
    return [f"  {name:<16} {value:.4f}" for name, value in metrics.items()]


def _summary_text(summary: dict[str, Any]) -> str:
    lines = []
    groups = {summary["name"]: summary["metrics"], **summary.get("baselines", {})}
    for name, metrics in groups.items():
        lines.append(f"{name}, {len(next(iter(metrics.values()))['values'])} seeds")
        lines += [f"  {m:<16} {v['mean']:.4f} ± {v['std']:.4f}" for m, v in metrics.items()]
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """One line an error, as everywhere else; the usage is a ``--help`` away."""

    def error(self, message: str):
        self.exit(2, f"lipzoo: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lipzoo", description="A model zoo of deep graph attention networks on DGL."
    )
    parser.add_argument("--version", action="version", version=f"lipzoo {lipzoo.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run, help: str, json: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        if json:
            sub.add_argument("--json", action="store_true", help="print JSON for a program")
        return sub

    sub = command("list", _list, "list architectures, or pretrained weights")
    sub.add_argument("pattern", nargs="?", default="*", help="such as 'gat_lip*'")
    sub.add_argument("--pretrained", action="store_true", help="list trained variants")

    sub = command("info", _info, "say what an architecture or pretrained weights are")
    sub.add_argument("name", metavar="NAME", help="gat_lip_16, gat_lip_16.cora, or a folder")

    sub = command("train", _train, "train a recipe over its seeds")
    sub.add_argument("recipe", metavar="RECIPE", help="a YAML file, a card, or a shipped name")
    _add_out(sub, "folder of the run")
    sub.add_argument("--seeds", help="such as 0..9 or 0,3 (default: the recipe's)")
    sub.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    sub.add_argument("--baselines", action="store_true", help="train the recipe's baselines too")
    sub.add_argument("--jobs", type=int, default=1, help="seeds that are trained at once")
    sub.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a recipe field"
    )
    _add_raw_dir(sub)
    _add_quiet(sub)

    sub = command("evaluate", _evaluate, "measure pretrained weights")
    _add_name(sub)
    _add_data(sub, "default: the data and options on the card")

    sub = command("finetune", _finetune, "put pretrained weights on another graph")
    _add_name(sub)
    _add_data(sub, "data to train on", required=True)
    _add_out(sub, "folder of the checkpoint")
    add_finetune_arguments(sub)
    _add_quiet(sub)

    sub = command("predict", _predict, "write class probabilities of every node", json=False)
    _add_name(sub)
    _add_data(sub, "data to predict; labels are not needed", required=True)
    _add_out(sub, "CSV file")

    sub = command("export", _export, "turn a run into a checkpoint with a card")
    sub.add_argument("run_dir", metavar="RUN_DIR", help="what `lipzoo train --out` wrote")
    _add_out(sub, "folder (default: pretrained/NAME.TAG)", required=False)
    _add_raw_dir(sub)

    sub = command("certify", _certify, "prove a Lipschitz bound, and radii classes keep within")
    _add_name(sub)
    _add_data(sub, "default: the data and options on the card")
    _add_out(sub, "folder of the JSON, the CSVs and the HTML report", required=False)
    add_certify_arguments(sub)

    sub = command("new", _new, "write an architecture, a recipe and a test to start from")
    sub.add_argument("name", metavar="NAME", help="small letters, digits and _, such as my_gat")
    sub.add_argument("--out", help="folder (default: one called NAME)")

    sub = command(
        "push", _push, "put pretrained weights on the Hugging Face Hub, with a model card"
    )
    _add_name(sub)
    sub.add_argument("repo_id", metavar="USER/REPO", help="made if there is none")
    sub.add_argument("--private", action="store_true", help="make a new repository private")
    sub.add_argument("--revision", help="a branch (default: main)")

    sub = command("demo", _demo, "load, evaluate, fine-tune, save and load again", json=False)
    _add_out(sub, "folder of the demo's files")
    return parser


def _add_name(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "name", metavar="NAME", help="weights by name, folder, URL or hf-hub:USER/REPO"
    )


def _add_out(sub: argparse.ArgumentParser, help: str, required: bool = True) -> None:
    sub.add_argument("--out", required=required, help=help)
    sub.add_argument("--overwrite", action="store_true", help="replace what is there")


def _add_data(sub: argparse.ArgumentParser, help: str, required: bool = False) -> None:
    names = "a dataset's name, or the path of a .bin, .npz or DGL CSV folder; "
    sub.add_argument("--data", metavar="D", required=required, help=names + help)
    sub.add_argument(
        "--data-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="option of load_dataset, such as missing_rate=1.0",
    )
    _add_raw_dir(sub)


def _add_raw_dir(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--raw-dir", help="where DGL's raw data lies (default: DGL_DOWNLOAD_DIR)")


def _add_quiet(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--quiet", action="store_true", help="no progress bar, no line an evaluation")


if __name__ == "__main__":
    sys.exit(main())
