"""What Triton's interpreter takes and its compiler refuses: the GPU kernels are compiled."""

import importlib.util
import os
import subprocess
import sys

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is absent: pip install lipzoo[cuda]", allow_module_level=True)

COMPILE = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

class AbsentGPU:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 80, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))

driver.set_active(AbsentGPU())
launch = JITFunction.run
names = set()

def compile_only(self, *args, grid, warmup, **options):
    compiled = launch(self, *args, grid=grid, warmup=True, **options)
    assert compiled.asm["cubin"]
    names.add(self.fn.__module__.split(".")[-1] + self.fn.__name__)

JITFunction.run = compile_only

from lipzoo.attention import *
from lipzoo.attention.fused.cuda import cuda_attention, index

index.SEGMENT = 2
structure = Structure(torch.zeros(5, dtype=int), torch.arange(5) // 3, 3, 3)
rows = lambda n: torch.randn(n, 2, 5, dtype=torch.bfloat16, requires_grad=True)
for scores, norm in (
    (AdditiveScores(rows(3), rows(3), rows(1), rows(1)), LipschitzNorm()),
    (GATv2Scores(rows(3), rows(3), rows(1)), LipschitzNorm()),
    (DotProductScores(rows(3), rows(3), rows(3)), DotProductLipschitzNorm()),
):
    cuda_attention(structure, scores, norm, 0.3).sum().backward()
print(len(names))
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    """What the interpreter takes and the compiler refuses shows here: Triton compiles to machine
    code without a GPU."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "13"
