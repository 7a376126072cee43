"""Fine-tuning that is killed and resumed ends with the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lipzoo.training import export_run, train

SCRIPT = Path(__file__).parents[1] / "killed_finetuning.py"
KILLS = 20


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_weights(recipe, tmp_path):
    small = recipe(overrides={"num_layers": 1}, epochs=2, seeds=[0])
    train(small, tmp_path / "run", verbose=False)
    source = export_run(tmp_path / "run", tmp_path / "source")
    command = [sys.executable, str(SCRIPT), str(source), str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["killed"] == KILLS
    # Moments of all kinds: before there was a state, and between two of them.
    assert found["with_state"] > KILLS // 4
    assert found["before_state"] > 0
