#!/usr/bin/env python3
"""Speed and memory of the backends beside DGL's and PyG's layers.

tools/benchmark.py --out results/benchmark
"""

import sys

from lab.benchmark.command import main

if __name__ == "__main__":
    sys.exit(main())
