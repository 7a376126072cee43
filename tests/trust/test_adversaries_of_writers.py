"""A share of what `tools/adversary_kills.py` and `tools/adversary_full_disk.py` do at length."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 12
TOOLS = Path(__file__).parents[2] / "tools"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def run(tool, out, *words):
    command = [sys.executable, str(TOOLS / tool), "--out", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_commands_that_are_killed(tmp_path):
    words = [
        "--kills",
        str(KILLS),
        "--writers",
        "train,export,finetune,predict,certify,new,download",
    ]
    done = run("adversary_kills.py", tmp_path, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "kills.json").read_text())
    assert (found["kills"], found["findings"]) == (7 * KILLS, 0)
    assert found["writers"]["export"]["at a writing call"] >= KILLS // 2
    # Of all kinds: before there was anything to go on with, in the middle, and of the new.
    states = {key for row in found["writers"].values() for key in row if key.startswith("from")}
    assert {"from old: old", "from old: new", "from nothing: unfinished"} <= states


def test_commands_on_a_full_disk(tmp_path):
    words = ["--cases", "4", "--writers", "export,predict,new"]
    done = run("adversary_full_disk.py", tmp_path, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "full_disk.json").read_text())
    assert found["findings"] == 0
    assert all(row["ENOSPC: refused"] >= 1 for row in found["writers"].values())
