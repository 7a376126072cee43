"""Processes that train together, as torchrun starts them, and a recipe that is quick."""

import os
import subprocess
import sys
from pathlib import Path

from lipzoo._processes import free_ports
from lipzoo._yaml import write_yaml

TESTS = Path(__file__).parent
SMALL = {
    "architecture": "gat_lip_16",
    "overrides": {
        "num_layers": 4,
        "hidden_feats": 16,
        "num_heads": 2,
        "degree_norm": "symmetric",
        **dict.fromkeys(("input_drop", "feat_drop", "head_drop", "attn_drop"), 0.0),
    },
    "dataset": {"name": "digits"},
    "epochs": 6,
    "seeds": [0],
}


def start(number, *arguments, others=None):
    """So many processes, as torchrun starts them."""
    [port] = free_ports(1)
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(number),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, *(others if rank and others else arguments)],
            env={**shared, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]


def ended(processes, limit=240):
    """``(code, stdout, stderr)`` of each."""
    try:
        said = [process.communicate(timeout=limit) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *words) for process, words in zip(processes, said, strict=True)]


def train(number, recipe, out, *more, others=None):
    command = ["-m", "lipzoo.cli", "train", str(recipe), "--out", str(out), *more]
    return start(number, *command, others=others and [*command[:3], *others])


def recipe_file(folder, **changes):
    path = folder / f"{'_'.join(changes) or 'small'}.yaml"
    write_yaml(path, {**SMALL, **changes})
    return path
