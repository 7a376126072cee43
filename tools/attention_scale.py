#!/usr/bin/env python3
"""Gradients of a deep untrained GAT against the scale of its attention vectors.

tools/attention_scale.py --data cora --out results/gradients_cora
"""

import sys

from lab.studies.attention_scale import main

if __name__ == "__main__":
    sys.exit(main())
