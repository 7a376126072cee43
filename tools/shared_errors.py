#!/usr/bin/env python3
"""Which nodes all seeds of a run get wrong, and what averaging their predictions would gain.

tools/shared_errors.py runs/res --out results/shared_errors_cora
"""

import sys

from lab.studies.shared_errors import main

if __name__ == "__main__":
    sys.exit(main())
