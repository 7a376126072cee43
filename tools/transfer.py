#!/usr/bin/env python3
"""Fine-tuning on unseen graphs, at few labels, beside training from scratch and simple baselines.

tools/transfer.py --out results/transfer
tools/transfer.py --out results/transfer --report
"""

import sys

from lab.transfer.command import main

if __name__ == "__main__":
    sys.exit(main())
