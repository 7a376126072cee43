#!/usr/bin/env python3
"""The paper's experiments: accuracy against depth, missing vectors, gradients by layer.

tools/reproduce.py depth --data cora --out results/depth_cora --jobs 2
tools/reproduce.py missing --data cora --out results/missing_cora
tools/reproduce.py gradients --data cora --out results/gradients_cora
tools/reproduce.py depth --out results/depth_cora --report
"""

import sys

from lab.studies.command import main

if __name__ == "__main__":
    sys.exit(main())
