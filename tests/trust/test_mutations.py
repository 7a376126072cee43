"""The faults of tools/mutations can still be put back; `tools/adversary_mutations.py` does."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted((ROOT / "tools/mutations").glob("*.patch"))


def test_there_are_some():
    assert PATCHES


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_it_applies(patch):
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    command = ["git", "apply", "--check", str(patch)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
