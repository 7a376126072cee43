"""Let PyTorch's idle threads sleep soon.

After each parallel operation GNU OpenMP's threads spin for some milliseconds, in case another one
follows. Between two of PyTorch's operations the fused kernels run on threads of their own, and
share the cores with those that spin: one layer on a graph of 505,000 edges then takes 1.4 times
as long. A hundredth of that is enough to bridge the gap between PyTorch's own operations. The
number is read when PyTorch is loaded, so it is set where lipzoo is imported first; what the user
has set is left alone.
"""

import os
import sys

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
