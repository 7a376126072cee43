#!/usr/bin/env python3
"""The closed-form stack, and weights in context, on all graphs, without training.

tools/in_context.py --weights gat_lip_context_8 --out results/in_context
"""

import sys

from lab.in_context import main

if __name__ == "__main__":
    sys.exit(main())
