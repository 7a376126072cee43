#!/usr/bin/env python3
"""The closed-form stack on all graphs, without training.

tools/closed_form.py --out results/closed_form
"""

import sys

from lab.closed_form import main

if __name__ == "__main__":
    sys.exit(main())
