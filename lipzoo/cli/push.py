"""``lipzoo push``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json, add_name

HELP = "put pretrained weights on the Hugging Face Hub, with a model card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_name(parser)
    parser.add_argument("repo_id", metavar="USER/REPO", help="made if there is none")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="a branch (default: main)")


def run(args: argparse.Namespace) -> None:
    from lipzoo.hub.push import push_to_hub

    private = True if args.private else None
    url = push_to_hub(args.name, args.repo_id, private=private, revision=args.revision)
    loads = f"hf-hub:{args.repo_id}" + (f"@{args.revision}" if args.revision else "")
    show(args, {"commit": url, "name": loads}, f"pushed: {url}\nlipzoo evaluate {loads}")
