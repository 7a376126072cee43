"""Several processes fetch at once, and some are killed: all succeed, one download, no debris."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from checkpoints import card, small_model
from loopback import file_server, hub_server

import lipzoo
from lipzoo._paths import packaged_folder
from lipzoo.hub import fetch
from lipzoo.hub.push import push_to_hub
from lipzoo.weights import read_checkpoint, write_checkpoint

NAME = "gat_lip_16.digits"
PROCESSES = 4

#: Waits until all are ready, then loads, fetches and evaluates.
PROGRAM = """
import json, pathlib, sys, time
import lipzoo
from lipzoo.training import evaluate
address, ready, go = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
task = lipzoo.load_dataset("digits")
ready.touch()
while not go.exists():
    time.sleep(0.005)
print(json.dumps(evaluate(lipzoo.load_pretrained(address), task)))
"""


def run_at_once(address, tmp_path, **variables):
    """What the processes printed."""
    environment = {
        **os.environ,
        "LIPZOO_HOME": str(tmp_path / "home"),
        "LIPZOO_BACKEND": "dgl",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **variables,
    }
    for name in ("LIPZOO_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"):
        environment.pop(name, None)
    go = tmp_path / "go"
    ready = [tmp_path / f"ready_{i}" for i in range(PROCESSES)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, str(mark), str(go)],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for mark in ready
    ]
    try:
        while not all(mark.exists() for mark in ready):
            assert all(process.poll() is None for process in processes), "one died at its imports"
            time.sleep(0.02)
        go.touch()
        answers = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [p.returncode for p in processes] == [0] * PROCESSES, answers
    return [json.loads(out.splitlines()[-1]) for out, _ in answers]


def check_metrics(answers):
    wanted = read_checkpoint(packaged_folder("pretrained") / NAME).card.weights.metrics
    for metrics in answers:
        assert metrics["test_accuracy"] == pytest.approx(wanted["test_accuracy"], abs=2e-3)


@pytest.mark.slow
def test_four_processes_and_a_url(tmp_path):
    with file_server() as server:
        for path in (packaged_folder("pretrained") / NAME).iterdir():
            server.files[f"/{NAME}/{path.name}"] = path.read_bytes()
        server.pause = 0.05  # so that the others do come while one fetches
        check_metrics(run_at_once(f"{server.url}/{NAME}", tmp_path))
        assert server.log.count_of("GET", "model.safetensors", 200) == 1, "one download"
        assert server.log.count_of("GET", "card.yaml", 200) == 1
        assert server.log.count_of("GET", "card.yaml", 304) == PROCESSES - 1
        assert len(server.log) == PROCESSES + 1
    names = {path.name for path in (tmp_path / "home").rglob("*") if path.is_file()}
    assert names - {".lock"} == {"index.yaml", "card.yaml", "model.safetensors"}


@pytest.mark.slow
def test_four_processes_and_the_hub(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        push_to_hub(NAME, "jane/digits")
        server.log.clear()
        server.pause = 0.05
        check_metrics(run_at_once("hf-hub:jane/digits", tmp_path, HF_ENDPOINT=server.url))
        [digest] = server.lfs
        assert server.log.count_of("GET", digest, 200) == 1, "one download"
        assert server.log.count_of("GET", "card.yaml", 200) == 1


def calls_of(action, kill_at=None):
    """How many built-in functions ``action`` calls; this process is killed at the given one.

    A moment counted in calls is the same one on every machine, however busy it is.
    """
    count = 0

    def on_event(frame, event, function):
        nonlocal count
        count += event == "c_call"
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(on_event)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_at_fifty_moments(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("LIPZOO_HOME", str(home))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("lipzoo._fetch.download._BLOCK", 64)
    monkeypatch.delenv("LIPZOO_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    made = write_checkpoint(tmp_path / "made", small_model(), card())
    states, killed = set(), 0
    with file_server() as server:
        for path in made.iterdir():
            server.files[f"/x/{path.name}"] = path.read_bytes()
        address = f"{server.url}/x"
        fetch(address)  # imports
        shutil.rmtree(home)
        undisturbed = calls_of(lambda: fetch(address))
        for moment in range(50):
            shutil.rmtree(home, ignore_errors=True)
            child = os.fork()
            if child == 0:
                try:
                    calls_of(lambda: fetch(address), kill_at=1 + moment * undisturbed // 50)
                finally:
                    os._exit(0)
            killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            found = {path.name for path in home.rglob("*") if path.is_file()}
            states.add(frozenset(name for name in found if not name.endswith(".tmp")))
            for weights in home.rglob("model.safetensors"):
                assert weights.read_bytes() == (made / "model.safetensors").read_bytes()
            assert "card.yaml" not in found or "model.safetensors" in found
            loaded = lipzoo.load_pretrained(address).state_dict()
            assert all(torch.equal(t, loaded[k]) for k, t in small_model().state_dict().items())
    assert killed >= 45  # how many pieces a body comes in may differ by a few
    assert len(states) >= 3, f"the moments were not spread: {states}"
