#!/usr/bin/env python3
"""Measure speed and memory of the backends: the same as ``lipzoo benchmark``."""

import sys

from lipzoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
