"""Training and export, killed at fifty moments each: nothing is lost, nothing is half written."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from checkpoints import card, small_model

from lipzoo._yaml import leftovers, read_yaml
from lipzoo.errors import OutputError
from lipzoo.training import export_run
from lipzoo.weights import (
    WEIGHTS_FILE,
    _pending,
    parse_safetensors,
    read_checkpoint,
    write_checkpoint,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")

RECIPE = {
    "architecture": "test_tiny",
    "overrides": {"feat_drop": 0.3, "attn_drop": 0.2},
    "dataset": {"name": "iris"},
    "epochs": 6,
    "seeds": [0, 1],
    "eval_every": 2,
}
KILLED = -9


@pytest.fixture(scope="module")
def work():
    """``work("train", args, seconds=…)``: what became of the child."""
    command = [sys.executable, str(Path(__file__).with_name("killable.py"))]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def order(kind, *args, **details):
            words = {"work": kind, "args": [str(a) if isinstance(a, Path) else a for a in args]}
            process.stdin.write(json.dumps({**words, **details}) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield order
        process.stdin.close()


def moments(undisturbed, number, seed):
    """Half of them anywhere in the time of the work, half at calls of those who write files."""
    rng = random.Random(seed)
    for _ in range(number // 2):
        yield {"seconds": rng.uniform(0, undisturbed["seconds"])}
        yield {"call": rng.randint(1, undisturbed["calls"])}


def files_of(folder):
    """What must be the same after any disturbance."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "state.pt" and "tensorboard" not in path.parts
    }


def check_whole(folder):
    """Every file that has its name can be read to its end."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".yaml":
            read_yaml(path)
        elif path.suffix == ".safetensors":
            assert parse_safetensors(path.read_bytes(), path)
        elif path.name == "state.pt":
            assert torch.load(path, weights_only=True)["model"]
    for result in folder.glob("seed_*/result.yaml"):
        assert result.with_name("model.safetensors").is_file()


@contextmanager
def fresh(folder, source=None):
    shutil.rmtree(folder, ignore_errors=True)
    if source is not None:
        shutil.copytree(source, folder)
    yield folder


def test_training_killed_at_fifty_moments(work, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    counted = work("train", whole, RECIPE, call=0)
    timed = work("train", tmp_path / "timed", RECIPE)
    assert (counted["code"], timed["code"]) == (0, 0)
    wanted = files_of(whole)
    assert files_of(tmp_path / "timed") == wanted
    states, killed = set(), 0
    for moment in moments({**counted, "seconds": timed["seconds"]}, 50, seed=0):
        with fresh(run):
            killed += work("train", run, RECIPE, **moment)["code"] == KILLED
            if run.is_dir():
                check_whole(run)
                states.add(tuple(sorted(str(p) for p in run.rglob("*") if "." in p.name)))
            assert work("train", run, RECIPE, options={"resume": True})["code"] == 0
            assert files_of(run) == wanted
    assert killed >= 25
    assert len(states) >= 10, "the moments were not spread"


def test_overwriting_a_run_killed(work, tmp_path):
    """Either the old recipe goes on or the new one begins, with the results of that recipe only."""
    new = {**RECIPE, "epochs": 4}
    old_run, new_run, run = tmp_path / "old", tmp_path / "new", tmp_path / "run"
    for folder, recipe in ((old_run, RECIPE), (new_run, new)):
        assert work("train", folder, recipe)["code"] == 0
    with fresh(run, old_run):
        options = {"overwrite": True}
        undisturbed = work("train", run, new, options=options, call=0)
        assert files_of(run) == files_of(new_run)
    for moment in moments(undisturbed, 16, seed=1):
        with fresh(run, old_run):
            work("train", run, new, options=options, **moment)
            check_whole(run)
            is_old = read_yaml(run / "recipe.yaml")["epochs"] == RECIPE["epochs"]
            recipe, wanted = (RECIPE, old_run) if is_old else (new, new_run)
            assert work("train", run, recipe, options={"resume": True})["code"] == 0
            assert files_of(run) == files_of(wanted)


def test_export_killed_at_fifty_moments(work, tmp_path):
    target = tmp_path / "target"
    runs = {"old": {**RECIPE, "epochs": 4}, "new": RECIPE}
    for name, recipe in runs.items():
        assert work("train", tmp_path / name, recipe)["code"] == 0
        export_run(tmp_path / name, tmp_path / f"{name}_export")
    old, new = (files_of(tmp_path / f"{name}_export") for name in runs)
    with fresh(target, tmp_path / "old_export"):
        undisturbed = work("export", tmp_path / "new", target, call=0)
        assert files_of(target) == new
    found, killed = {"old": 0, "new": 0}, 0
    for moment in moments(undisturbed, 50, seed=2):
        with fresh(target, tmp_path / "old_export"):
            killed += work("export", tmp_path / "new", target, **moment)["code"] == KILLED
            read = read_checkpoint(target)  # which checks the hash
            which = "old" if (target / "card.yaml").read_bytes() == old["card.yaml"] else "new"
            found[which] += 1
            kept = read_checkpoint(tmp_path / f"{which}_export")
            assert read.card == kept.card
            assert all(torch.equal(t, kept.tensors[key]) for key, t in read.tensors.items())
            assert work("export", tmp_path / "new", target)["code"] == 0
            assert files_of(target) == new
    assert killed >= 25
    assert min(found.values()) > 0, f"the moments were not spread: {found}"


def test_a_first_export_killed(work, tmp_path):
    """What was not finished does not stand in the way of the next, which needs no --overwrite."""
    assert work("train", tmp_path / "run", RECIPE)["code"] == 0
    target, unfinished = tmp_path / "target", 0
    undisturbed = work("export", tmp_path / "run", target, call=0)
    wanted = files_of(target)
    for moment in moments(undisturbed, 20, seed=3):
        with fresh(target):
            work("export", tmp_path / "run", target, **moment)
            if (target / "card.yaml").exists():
                read_checkpoint(target)
                with pytest.raises(OutputError, match="already holds files"):
                    export_run(tmp_path / "run", target)
                export_run(tmp_path / "run", target, overwrite=True)
            else:
                unfinished += target.exists() and any(target.iterdir())
                export_run(tmp_path / "run", target)
            assert files_of(target) == wanted
    assert unfinished > 0


def test_a_reader_never_sees_a_mixture(tmp_path):
    models = [small_model(seed) for seed in (0, 1)]
    write_checkpoint(tmp_path, models[0], card())

    def replace():
        for number in range(60):
            write_checkpoint(tmp_path, models[number % 2], card(), overwrite=True)

    writer = threading.Thread(target=replace)
    writer.start()
    reads = 0
    while writer.is_alive():
        tensors = read_checkpoint(tmp_path).tensors
        assert any(
            all(torch.equal(t, tensors[key]) for key, t in model.state_dict().items())
            for model in models
        )
        reads += 1
    writer.join()
    assert reads > 10
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("owner, look", [(Path, "is_file"), (Path, "stat"), (os, "open")])
def test_the_weights_get_their_name_between_two_looks(tmp_path, monkeypatch, owner, look):
    model = small_model()
    write_checkpoint(tmp_path, model, card())
    named = tmp_path / WEIGHTS_FILE
    waiting = _pending(tmp_path, read_checkpoint(tmp_path).card.weights.sha256)
    named.rename(waiting)
    real, renamed = getattr(owner, look), []

    def look_and_rename(path, *args, **details):
        found = real(path, *args, **details)
        if Path(path).name == waiting.name and not renamed:
            renamed.append(waiting.rename(named))
        return found

    monkeypatch.setattr(owner, look, look_and_rename)
    if owner is os:  # looked up in a set, which the replacement is not in
        monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, look_and_rename})
    tensors = read_checkpoint(tmp_path).tensors
    assert renamed
    assert all(torch.equal(t, tensors[key]) for key, t in model.state_dict().items())


def test_equal_weights_are_equal_files(tmp_path):
    made = [
        write_checkpoint(tmp_path / str(number), small_model(), card(tag=f"t{number}"))
        for number in range(8)
    ]
    assert len({(folder / "model.safetensors").read_bytes() for folder in made}) == 1
