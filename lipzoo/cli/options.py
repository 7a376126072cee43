"""Options that several commands have, and options that are made of settings."""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lipzoo.errors import ConfigError

if TYPE_CHECKING:
    import pydantic
    from torch import nn

    from lipzoo.card import Card
    from lipzoo.datasets import GraphTask

__all__ = [
    "add_batching",
    "add_data",
    "add_device",
    "add_jobs",
    "add_json",
    "add_metric",
    "add_name",
    "add_out",
    "add_progress",
    "add_raw_dir",
    "add_settings",
    "batching_of",
    "data_options",
    "load_model",
    "load_task",
    "verbosity",
]

#: What ``--progress`` takes.
PROGRESS = ("bar", "json", "none")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for a program")


def add_name(parser: argparse.ArgumentParser) -> None:
    """The weights."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="weights by name (gat_lip_16.cora), folder (./mine), URL or hf-hub:USER/REPO",
    )


def add_jobs(parser: argparse.ArgumentParser, what: str) -> None:
    """``--jobs``."""
    parser.add_argument("--jobs", type=int, metavar="N", default=1, help=f"{what} at once")


def add_device(parser: argparse.ArgumentParser, what: str) -> None:
    """``--device``."""
    parser.add_argument(
        "--device", metavar="D", help=f"{what} together on this device, such as cuda"
    )


def add_out(parser: argparse.ArgumentParser, help: str, required: bool = True) -> None:
    """``--out`` and ``--overwrite``."""
    parser.add_argument("--out", required=required, help=help)
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def add_data(parser: argparse.ArgumentParser, help: str, required: bool = False) -> None:
    """``--data``, ``--data-option`` and ``--raw-dir``; `load_task` reads them."""
    names = (
        "a dataset's name, or the path of a .bin, .npz, .pt, .graphml or .gml, or of a folder of "
        "tables (./mine); "
    )
    parser.add_argument("--data", metavar="D", required=required, help=names + help)
    parser.add_argument(
        "--data-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="option of load_dataset, such as missing_rate=1.0",
    )
    add_raw_dir(parser)


def add_raw_dir(parser: argparse.ArgumentParser) -> None:
    """``--raw-dir``."""
    parser.add_argument(
        "--raw-dir", metavar="DIR", help="where DGL's raw data lies (default: DGL_DOWNLOAD_DIR)"
    )


def add_metric(parser: argparse.ArgumentParser) -> None:
    """``--metric``; `load_task` reads it."""
    from lipzoo.settings import METRICS

    parser.add_argument(
        "--metric", metavar="M", help=f"judge by {', '.join(METRICS)} (default: the data's)"
    )


def add_batching(
    parser: argparse.ArgumentParser,
    default: str | None = None,
    help: str = "",
) -> None:
    """``--batching``; `batching_of` reads it. Without a default it is the recipe's."""
    from lipzoo.settings import BATCHINGS

    help = help or (
        f"what an epoch is: {', '.join(BATCHINGS)}; or with settings, such as '{{name: clusters, "
        "parts: 64}'"
    )
    help += "" if default else " (default: the recipe's)"
    parser.add_argument("--batching", metavar="B", default=default, help=help)


def batching_of(args: argparse.Namespace) -> dict[str, Any] | None:
    """What ``--batching`` says, with a name; None where it is not there."""
    from lipzoo._yaml import parse_yaml

    if args.batching is None:
        return None
    try:
        said = parse_yaml(args.batching)
    except Exception:
        said = None
    if not isinstance(said, (str, dict)):
        raise ConfigError(
            f"--batching {args.batching}: must be a name, or a mapping in YAML, such as '{{name: "
            "clusters, parts: 64}'"
        )
    return {"name": said} if isinstance(said, str) else said


def add_progress(parser: argparse.ArgumentParser) -> None:
    """``--progress`` and ``--quiet``; `verbosity` reads them."""
    parser.add_argument(
        "--progress",
        choices=PROGRESS,
        help="on stderr: a bar (lines in a pipe), JSON lines, or nothing (default: bar; with "
        "--json: none)",
    )
    parser.add_argument("--quiet", action="store_true", help="the same as --progress none")


def verbosity(args: argparse.Namespace) -> bool | typing.Literal["json"]:
    """What ``verbose`` is to be."""
    if args.quiet or args.progress == "none":
        return False
    if args.progress == "json":
        return "json"
    return args.progress == "bar" or not args.json


def add_settings(
    parser: argparse.ArgumentParser,
    schema: type[pydantic.BaseModel],
    names: Iterable[str],
    whose: str = "",
) -> list[str]:
    """An option for each setting: its type, its default and its text are the schema's.

    Parameters
    ----------
    parser : ArgumentParser
        Gets the options.
    schema : type
        A schema whose fields all have defaults.
    names : iterable of str
        Fields, with dots for those of a part: ``optimizer.lr`` becomes ``--lr``.
    whose : str
        Who says the default in the schema's place; then the options are None where not said.

    Returns
    -------
    list of str
        The attributes of the parsed arguments.
    """
    added = []
    for name in names:
        part, default = schema, schema()
        *parents, last = name.split(".")
        for parent in parents:
            part, default = part.model_fields[parent].annotation, getattr(default, parent)
        field, default = part.model_fields[last], getattr(default, last)
        kind = _plain_type(field.annotation)
        option: dict[str, Any] = {"action": "store_true"}
        if kind is not bool:
            option = {"type": kind, "metavar": {int: "N", float: "X"}.get(kind, "WORD")}
        flag = f"--{last.replace('_', '-')}"
        text, default = field.description, None if whose else default
        text += f" (default: {whose})" if whose else ""
        parser.add_argument(flag, default=default, help=text, **option)
        added.append(last)
    return added


def _plain_type(annotation: Any) -> type:
    """``int`` of ``Annotated[int, …] | None``; ``str`` of a choice of words."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return str
    if origin in (typing.Annotated, typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        return _plain_type(inner[0])
    return annotation


def load_model(name: str) -> nn.Module:
    """Weights that predict classes, and are no body without a head."""
    from lipzoo.models import check_has_head
    from lipzoo.registry import load_pretrained

    model = load_pretrained(name)
    check_has_head(model, name)
    return model


def load_task(
    args: argparse.Namespace, card: Card | None = None, require_labels: bool = True
) -> GraphTask:
    """The task that ``--data`` names, or the one on the card."""
    from lipzoo._progress import stage
    from lipzoo.datasets import load_dataset

    options: dict[str, Any] = {}
    name = args.data
    if name is None and card.pretrained_on:
        raise ConfigError(
            f"{card.full_name}: were pretrained, and have no data of their own; say --data"
        )
    if name is None:
        name, options = card.dataset.name, dict(card.dataset.options)
    options |= data_options(args)
    if getattr(args, "metric", None) is not None:
        options["metric"] = args.metric
    options.setdefault("require_labels", require_labels)
    verbose = verbosity(args) if hasattr(args, "progress") else not args.json
    with stage(verbose, f"loading {name}"):
        return load_dataset(name, raw_dir=args.raw_dir, **options)


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """What ``--data-option`` gives."""
    from lipzoo.training.recipe import apply_changes

    options = apply_changes({}, args.data_option, "--data-option")
    for name, option in (("raw_dir", "--raw-dir"), ("name_or_path", "--data")):
        if name in options:
            raise ConfigError(f"--data-option {name}: say {option} instead")
    return options
