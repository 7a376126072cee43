#!/usr/bin/env python3
"""Memory, time and rounding of reversible depth.

tools/reversible.py --out results/reversible
"""

import sys

from lab.studies.reversible import main

if __name__ == "__main__":
    sys.exit(main())
