#!/usr/bin/env python3
"""Pretrain weights by a recipe in tools/lab/pretraining/configs/: universal ones, or in context.

tools/pretrain.py cs_computers_digits --out runs/universal --resume
tools/pretrain.py context_8 --out runs/context --ahead 1 --resume
"""

import sys

from lab.pretraining.command import main

if __name__ == "__main__":
    sys.exit(main())
