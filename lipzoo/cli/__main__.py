"""``python -m lipzoo.cli``: the same as ``lipzoo``."""

import sys

from lipzoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
