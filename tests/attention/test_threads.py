"""The threads of the fused kernels: PyTorch's own, and what may happen to them."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from lipzoo._torch import threads as torch_threads
from lipzoo.attention import AdditiveScores, LipschitzNorm, Structure, graph_attention
from lipzoo.attention.fused import threads
from lipzoo.attention.fused.runtime import Launcher
from lipzoo.attention.fused.threads import run_together

HEADS, WIDTH = 2, 8
#: Enough for `Launcher` to take more threads than one.
NODES, EDGES = 3000, 70_000
HAS_GOMP = threads._team() is not None

with_team = pytest.mark.skipif(not HAS_GOMP, reason="PyTorch is not built with GNU OpenMP")


@pytest.fixture(params=["PyTorch's", "our own"])
def whose(request, monkeypatch):
    """Both kinds of threads."""
    if request.param == "our own":
        monkeypatch.setattr(threads, "_is_forked", True)
    elif not HAS_GOMP:
        pytest.skip("PyTorch is not built with GNU OpenMP")
    return request.param


@pytest.fixture(autouse=True)
def two_threads():
    with torch_threads(2):
        yield


def make_case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(NODES, (2, EDGES), generator=generator)
    loops = torch.arange(NODES)
    structure = Structure(torch.cat([src, loops]), torch.cat([dst, loops]), NODES, NODES)
    v = torch.randn(NODES, HEADS, WIDTH, generator=generator)
    return structure, v, torch.randn(1, HEADS, WIDTH, generator=generator)


def attend(structure, v, a):
    """Output and gradient of one call."""
    v = v.clone().requires_grad_()
    scores = AdditiveScores(v, None, a, a)
    torch.manual_seed(3)
    out, _ = graph_attention(
        structure, scores, score_norm=LipschitzNorm(), attn_drop=0.2, backend="fused"
    )
    (grad,) = torch.autograd.grad(out.square().sum(), v)
    return out.detach(), grad


def are_equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two))


def fill(chunk_from, chunk_to, numbers):
    """Stands for a kernel: counts how often each chunk is worked on."""
    numbers[chunk_from:chunk_to] += 1


fill.signatures = [()]


def test_every_chunk_is_worked_on_once(whose):
    for number in (1, 2, 3, 7, 64, 100):
        with torch_threads(number):
            counts = np.zeros(64, np.int64)
            Launcher(2**30)(fill, counts)
            assert (counts == 1).all(), number


@with_team
def test_threads_are_pytorchs():
    """Nothing new is started where PyTorch has woken its threads, nor a second OpenMP loaded."""
    torch.rand(1000, 1000).exp().sum()
    before = set(os.listdir("/proc/self/task"))
    used, both = set(), threading.Barrier(2)

    def work():
        used.add(str(threading.get_native_id()))
        both.wait(30)  # neither does it all

    def libraries():
        with open("/proc/self/maps") as file:
            return {line.split()[-1] for line in file if "gomp" in line}

    loaded = libraries()
    run_together(work, 2)
    assert used <= before
    assert len(used) == 2
    assert set(os.listdir("/proc/self/task")) <= before
    assert libraries() == loaded


def test_the_number_of_threads_changes_nothing(whose):
    case = make_case()
    with torch_threads(1):
        wanted = attend(*case)
    for number in (2, 5, 1, 3, 2):
        torch.set_num_threads(number)
        assert are_equal(attend(*case), wanted), number


def test_several_python_threads_at_once(whose):
    cases = [make_case(seed) for seed in range(4)]

    # The seed is drawn from one generator: without dropout.
    def output(structure, v, a):
        return graph_attention(structure, AdditiveScores(v, None, a, a), backend="fused")[0]

    wanted = [output(*case) for case in cases]
    found: dict[int, list] = {k: [] for k in range(len(cases))}

    def repeat(k):
        torch.set_num_threads(2)  # OpenMP's number belongs to the thread
        for _ in range(5):
            found[k].append(torch.equal(output(*cases[k]), wanted[k]))

    running = [threading.Thread(target=repeat, args=(k,)) for k in found]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(120)
    assert all(len(each) == 5 and all(each) for each in found.values())


@with_team
def test_within_a_parallel_region_it_is_one_call():
    counts, inner = np.zeros(64, np.int64), []

    def outer():
        calls = []
        run_together(lambda: calls.append(threading.get_native_id()), 2)
        inner.append(calls)
        Launcher(2**30)(fill, counts)

    run_together(outer, 2)
    assert len(inner) == 2
    assert all(len(calls) == 1 for calls in inner)
    assert (counts == 2).all()


def test_a_fault_is_raised_and_the_next_call_works(whose):
    def fails(chunk_from, chunk_to):
        raise ZeroDivisionError(f"chunk {chunk_from}")

    fails.signatures = [()]
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="chunk"):
            Launcher(2**30)(fails)
    counts = np.zeros(64, np.int64)
    Launcher(2**30)(fill, counts)
    assert (counts == 1).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals on Windows")
def test_an_interrupt_is_not_lost(whose):
    """Wherever in a call it comes."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    counts, caught = np.zeros(64, np.int64), 0
    gc.disable()  # Python drops what is raised in a callback of it; Hypothesis has one
    try:
        for k in range(60):
            end = time.monotonic() + 30
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + 2e-5 * k)
                while time.monotonic() < end:
                    Launcher(2**30)(fill, counts)
            except KeyboardInterrupt:
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert caught == 60
    counts[:] = 0
    Launcher(2**30)(fill, counts)
    assert (counts == 1).all()


@with_team
def test_an_interrupt_at_the_door_is_raised(monkeypatch):
    """ctypes swallows what is raised before our function can catch it."""
    monkeypatch.setattr(threads, "_team", lambda: lambda *arguments: None)
    with pytest.raises(KeyboardInterrupt):
        run_together(lambda: None, 2)


FORK = """
import os, torch
import test_threads as t
case = t.make_case()
torch.set_num_threads(2)
with t.torch_threads(1):
    wanted = t.attend(*case)
assert t.are_equal(t.attend(*case), wanted)
"""


def run_alone(program):
    """In a process that may hang or die."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", FORK + program],
        timeout=300,
        env=os.environ | {"PYTHONPATH": path},
    ).returncode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_a_forked_child_works_on_threads_of_its_own():
    """And so does a child of its own. PyTorch's operations would hang there on two threads."""
    program = """
import numpy as np
def works(depth):
    counts = np.zeros(64, np.int64)
    t.Launcher(2**30)(t.fill, counts)
    with t.torch_threads(1):
        is_right = t.are_equal(t.attend(*case), wanted) and (counts == 1).all()
    if is_right and depth and (child := os.fork()):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if is_right and depth:
        os._exit(0 if works(depth - 1) else 1)
    return is_right
assert works(2)
assert t.are_equal(t.attend(*case), wanted)
"""
    assert run_alone(program) == 0


class Attended(torch.utils.data.Dataset):
    """An item is the output of a call."""

    def __init__(self):
        self.case = make_case()

    def __len__(self):
        return 4

    def __getitem__(self, k):
        torch.set_num_threads(1 + k % 2)
        counts = np.zeros(64, np.int64)
        Launcher(2**30)(fill, counts)
        torch.set_num_threads(1)
        return attend(*self.case)[0] * float((counts == 1).all())


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked there")
def test_workers_of_a_loader():
    program = """
from torch.utils.data import DataLoader
loader = DataLoader(t.Attended(), batch_size=None, num_workers=2, multiprocessing_context="fork")
for _ in range(2):
    assert all(torch.equal(out, wanted[0]) for out in loader)
    assert t.are_equal(t.attend(*case), wanted)
"""
    assert run_alone(program) == 0
