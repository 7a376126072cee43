#!/usr/bin/env python3
"""Turn a run into pretrained weights: the same as ``lipzoo export``."""

import sys

from lipzoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
