#!/usr/bin/env python3
"""Train a recipe: the same as ``lipzoo train``."""

import sys

from lipzoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
