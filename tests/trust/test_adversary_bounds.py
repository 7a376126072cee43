"""The adversary of bounds: it finds nothing, would find a fault, and goes on where it stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from adversary.bounds import _try_again, make_case, run_chunk
from lipzoo.lipschitz import Constant, modules
from lipzoo.lipschitz.constant import ONE

ROOT = Path(__file__).parents[2]


def test_it_tries_every_kind_and_finds_nothing():
    part = run_chunk(seed=7, start=1, count=60)
    assert part["cases"] == 60
    assert part["findings"] == []
    assert len(part["kinds"]) > 12
    assert sum(kind["beyond_float64"] for kind in part["kinds"].values()) < 6


def test_it_sees_a_bound_that_takes_the_wrong_number_of_nodes(monkeypatch):
    right = Constant.with_nodes
    monkeypatch.setattr(Constant, "with_nodes", lambda c, first, last: right(c, last, last))
    part = run_chunk(seed=0, start=129, count=1)
    assert part["found"] == 1
    assert part["findings"][0]["kind"] == "DeepGAT initial blocks"
    monkeypatch.undo()
    assert max(make_case(129).ratios()) < 1


def test_it_sees_an_activation_that_has_no_constant(monkeypatch):
    monkeypatch.setitem(modules._RULES, nn.CELU, lambda module, structure: ONE)
    assert run_chunk(seed=0, start=119, count=1)["found"] == 1


def test_a_derivative_that_pytorch_rounds_is_no_finding():
    """CELU's, at a point where it is 1 + 2e-8 by PyTorch and 1 - 4e-10 in truth."""
    number = 2**32 + 38178
    case = make_case(number)
    assert isinstance(case.module.activation, nn.CELU)
    assert 1 - 1e-6 < max(case.ratios()) <= 1
    summary = {"found": 1, "findings": [{"case": number, "how": "random"}]}
    _try_again(summary)
    assert summary == {"found": 0, "findings": []}


def test_a_raw_exception_is_a_finding(monkeypatch):
    def rule(module, structure):
        raise OverflowError("math range error")

    monkeypatch.setitem(modules._RULES, nn.CELU, rule)
    (found,) = run_chunk(seed=0, start=119, count=1)["findings"]
    assert found["fault"] == "OverflowError: math range error"


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_stopped(tmp_path):
    def run(cases, seed=0):
        command = [sys.executable, "-W", "ignore", ROOT / "tools" / "adversary_bounds.py"]
        options = ["--cases", cases, "--seed", seed, "--out", tmp_path]
        return subprocess.run([*map(str, [*command, *options])], capture_output=True, text=True)

    assert run(3).returncode == 0
    first = json.loads((tmp_path / "bounds.json").read_text())
    assert run(5).returncode == 0
    both = json.loads((tmp_path / "bounds.json").read_text())
    assert (first["cases"], both["cases"]) == (3, 5)
    refused = run(5, seed=1)
    assert refused.returncode == 2
    assert "is of seed 0" in refused.stderr
