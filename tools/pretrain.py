#!/usr/bin/env python3
"""Pretrain the universal weights by a recipe in tools/lab/pretraining/configs/.

tools/pretrain.py cs_computers_digits --out runs/universal --resume
"""

import sys

from lab.pretraining.command import main

if __name__ == "__main__":
    sys.exit(main())
