"""Several machines: network namespaces, each with an address of its own and nothing else of it."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest
from launch import TESTS, ended, recipe_file, start

from lipzoo._yaml import read_yaml

NUMBER = 4


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def can_make_namespaces():
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"lipzoo{os.getpid()}"
    with contextlib.suppress(subprocess.CalledProcessError):
        ip("netns", "add", name)
        ip("netns", "del", name)
        return True
    return False


@pytest.fixture
def hosts():
    """Names of namespaces that a bridge joins; host k has the address 10.213.0.(k + 1)."""
    if not can_make_namespaces():
        pytest.skip("network namespaces need root, and the command ip")
    bridge = f"lz{os.getpid() % 10**6}"
    names = [f"{bridge}n{k}" for k in range(NUMBER)]
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for k, name in enumerate(names):
            ip("netns", "add", name)
            outer = f"{bridge}v{k}"
            ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", outer, "master", bridge, "up")
            ip("-n", name, "addr", "add", f"10.213.0.{k + 1}/24", "dev", "eth0")
            for link in ("eth0", "lo"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True)


def on_hosts(hosts, folders, *arguments):
    """``torchrun`` on each host, in its folder."""
    env = {**os.environ, "PYTHONPATH": str(TESTS.parent), "GLOO_SOCKET_IFNAME": "eth0"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(NUMBER)]
    launch += ["--nproc-per-node", "1", "--master-addr", "10.213.0.1", "--master-port", "29400"]
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *launch, "--node-rank", str(k), *arguments],
            env={**env, "OMP_NUM_THREADS": "1"},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k, (name, folder) in enumerate(zip(hosts, folders, strict=True))
    ]


def test_four_machines_train_what_one_process_does(hosts, tmp_path):
    """Each has the recipe, what all read of the parts, and the one part that is its own."""
    recipe = recipe_file(tmp_path)
    cut = ["-m", "lipzoo.cli", "partition", "digits", "--parts", str(NUMBER), "--out"]
    alone = ["-m", "lipzoo.cli", "train", str(recipe), "--out", str(tmp_path / "one")]
    for command in ([*cut, str(tmp_path / "parts")], alone):
        [(code, _, words)] = ended(start(1, *command))
        assert code == 0, words
    folders = [tmp_path / name for name in hosts]
    for k, folder in enumerate(folders):
        (folder / "parts").mkdir(parents=True)
        shutil.copy(recipe, folder / "recipe.yaml")
        for name in ("parts.yaml", "nodes.npz", f"part_{k}.npz"):
            shutil.copy(tmp_path / "parts" / name, folder / "parts")

    train = ["-m", "lipzoo.cli", "train", "recipe.yaml", "--parts", "parts", "--out", "run"]
    for code, _, words in ended(on_hosts(hosts, folders, *train)):
        assert code == 0, words
    assert [(folder / "run").exists() for folder in folders] == [True] + [False] * (NUMBER - 1)
    runs = tmp_path / "one", folders[0] / "run"
    results = [read_yaml(run / "seed_0/result.yaml") for run in runs]
    assert results[0]["best_epoch"] == results[1]["best_epoch"]
    for name, value in results[0]["metrics"].items():
        assert results[1]["metrics"][name] == pytest.approx(value, abs=1e-4), name

    # A machine that lacks its part ends all of them, and the run that is there stays.
    (folders[2] / "parts" / "part_2.npz").unlink()
    before = (folders[0] / "run/seed_0/model.safetensors").read_bytes()
    found = ended(on_hosts(hosts, folders, *train, "--overwrite"))
    assert all(code != 0 for code, *_ in found)
    assert all("part_2.npz: cannot be read" in words for *_, words in found), found
    assert (folders[0] / "run/seed_0/model.safetensors").read_bytes() == before
