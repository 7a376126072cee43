"""DistDGL: what its trainers compute, write and say, and what is left where one ends."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import distdgl_worker
import pytest
import torch
from safetensors.torch import load_file

from lipzoo._processes import free_ports
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.cli import main
from lipzoo.errors import ConfigError, DataError, LipzooError, OutputError
from lipzoo.training import distdgl_launch
from lipzoo.training.distdgl_parts import SHARED
from lipzoo.training.ranks_parts import Parts, write_parts

SMALL = {
    "architecture": "gat_lip_2",
    "overrides": {
        "hidden_feats": 16,
        "num_heads": 2,
        "degree_norm": "symmetric",
        **dict.fromkeys(("input_drop", "feat_drop", "head_drop", "attn_drop"), 0.0),
    },
    "dataset": {"name": "digits"},
    "batching": {"name": "neighbours", "sampler": "uniform", "fanouts": 5, "batch_size": 400},
    "epochs": 4,
    "seeds": [0],
}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process, and nothing in shared memory."""
    yield
    assert not list(SHARED.glob(f"lipzoo-{os.getpid()}-*"))
    assert distdgl_launch.get_context("spawn").active_children() == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two parts of a small graph."""
    out = tmp_path_factory.mktemp("small")
    write_parts(distdgl_worker.small_task(), {"name": "small"}, 2, out, engine="distdgl")
    return Parts(out, None, None, "distdgl")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two parts of digits, as the command line writes them."""
    out = tmp_path_factory.mktemp("digits")
    command = ["partition", "digits", "--parts", "2", "--engine", "distdgl", "--out", str(out)]
    assert main(command) == 0
    return out


@pytest.fixture
def parts(digits, tmp_path):
    """A copy, to be spoilt."""
    return shutil.copytree(digits, tmp_path / "parts")


def recipe_file(folder, **changes):
    write_yaml(folder / "recipe.yaml", {**SMALL, **changes})
    return str(folder / "recipe.yaml")


def command(tmp_path, parts, *more, **changes):
    recipe = recipe_file(tmp_path, **changes)
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    return ["train", recipe, *out, "--engine", "distdgl", "--parts", str(parts), *more]


@pytest.mark.slow
def test_gradients_and_logits_are_those_of_one_process(small):
    """In float64, with all neighbours: one step, several, and where a trainer has no nodes."""
    done = distdgl_launch.launch(small, distdgl_worker.compare, ())
    assert done == len(distdgl_worker.CASES)


@pytest.mark.slow
def test_a_run_is_read_as_any_other(digits, tmp_path, capsys):
    everything = {**SMALL["batching"], "fanouts": -1, "batch_size": 10_000}
    assert main(command(tmp_path, digits, batching=everything)) == 0
    run, words = tmp_path / "run", capsys.readouterr()
    assert "gat_lip_2.digits, 1 seed" in words.out
    assert "Traceback" not in words.err
    alone = recipe_file(tmp_path, batching={"name": "full"})
    assert main(["train", alone, "--out", str(tmp_path / "alone"), "--quiet"]) == 0
    results = [read_yaml(out / "seed_0/result.yaml") for out in (run, tmp_path / "alone")]
    assert results[0]["fingerprint"] == results[1]["fingerprint"]
    assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], abs=1e-5)
    exported = ["export", str(run), "--out", str(tmp_path / "weights")]
    assert main(exported) == 0
    [weights] = [path.parent for path in (tmp_path / "weights").rglob("model.safetensors")]
    assert main(["evaluate", str(weights), "--json"]) == 0


@pytest.mark.slow
def test_half_then_the_rest_is_the_whole(digits, tmp_path):
    """Where nothing is drawn: all neighbours, one batch."""
    everything = {**SMALL["batching"], "fanouts": -1, "batch_size": 10_000}
    for out, epochs in (("whole", ["4"]), ("halves", ["2", "4"])):
        (tmp_path / out).mkdir()
        for k, number in enumerate(epochs):
            more = ["--epochs", number, *(["--resume"] if k else [])]
            assert main(command(tmp_path / out, digits, *more, batching=everything)) == 0
    weights, states = zip(
        *(
            (load_file(seed / "model.safetensors"), read_yaml(seed / "result.yaml"))
            for seed in (tmp_path / out / "run/seed_0" for out in ("whole", "halves"))
        )
    )
    assert states[0]["best_epoch"] == states[1]["best_epoch"]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_nodes_that_are_judged_read_all_their_neighbours(digits, tmp_path, capsys):
    few = {**SMALL["batching"], "fanouts": 1, "batch_size": 50}
    assert main(command(tmp_path, digits, batching=few)) == 0
    out = tmp_path / "weights"
    assert main(["export", str(tmp_path / "run"), "--out", str(out)]) == 0
    [weights] = [path.parent for path in out.rglob("model.safetensors")]
    capsys.readouterr()
    assert main(["evaluate", str(weights), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)["metrics"]
    said = read_yaml(tmp_path / "run" / "seed_0/result.yaml")["metrics"]
    assert said == pytest.approx(whole, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "arguments", "words"),
    [
        (distdgl_worker.fail, ("raise",), "trainer 1: ZeroDivisionError: of the second"),
        (distdgl_worker.fail, ("kill",), r"trainer 1 is gone: a signal \(9\) ended it"),
        (distdgl_worker.hang, (), "nothing was heard of trainer 0, trainer 1 for 2 seconds"),
    ],
)
def test_who_ends_or_hangs_ends_all(small, work, arguments, words, monkeypatch):
    monkeypatch.setattr(distdgl_launch, "SILENCE", 2.0)
    with pytest.raises(LipzooError, match=words):
        distdgl_launch.launch(small, work, arguments)


@pytest.mark.slow
def test_a_server_that_dies_ends_all(small, monkeypatch):
    monkeypatch.setattr(distdgl_launch, "serve", distdgl_worker.dies)
    with pytest.raises(LipzooError, match=r"server \d is gone: a signal \(9\) ended it"):
        distdgl_launch.launch(small, distdgl_worker.hang, ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batching": {"name": "full"}}, "--batching '{name: neighbours, sampler: uniform"),
        ({"batching": {"name": "neighbours"}}, "the sampler is 'labor' (the default)"),
        ({"batching": {**SMALL["batching"], "batch_size": 0}}, "batch_size"),
        ({"batching": {**SMALL["batching"], "fanouts": [5]}}, "fanouts are for 1 layers"),
        ({"overrides": {"feature_norm": "batchnorm"}}, "statistics over the nodes"),
        ({"overrides": {"feature_norm": "pairnorm"}}, "statistics over the nodes"),
        ({"overrides": {"feature_norm": "neighbornorm"}}, "neighbornorm"),
        ({"dataset": {"name": "digits", "missing_rate": 1.0}}, "differ in missing_rate"),
        ({"dataset": {"name": "wine"}}, "differ in name"),
        ({"start": {"of": "stack"}}, "a start or an encoding"),
    ],
)
def test_what_is_not_for_distdgl_is_refused_before_anything_is_started(
    digits, tmp_path, changes, words, capsys, monkeypatch
):
    monkeypatch.setattr(distdgl_launch, "_Processes", None)
    assert main(command(tmp_path, digits, **changes)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--jobs", "2"], "leave out --jobs"),
        (["--baselines"], "baselines"),
        (["--device", "cpu"], "leave out --device"),
    ],
)
def test_options_that_do_not_go_together(digits, tmp_path, options, words, capsys, monkeypatch):
    monkeypatch.setattr(distdgl_launch, "_Processes", None)
    assert main(command(tmp_path, digits, *options)) == 2
    assert words in capsys.readouterr().err


def spoil(parts, how, tmp_path):
    if how == "missing":
        (parts / "part1" / "node_feat.dgl").unlink()
    elif how == "of another graph":
        other = tmp_path / "other"
        write_parts(distdgl_worker.small_task(), {"name": "small"}, 2, other, engine="distdgl")
        shutil.copy(other / "part1" / "graph.dgl", parts / "part1" / "graph.dgl")
    elif how == "labels":
        shutil.copy(parts / "graph.json", parts / "nodes.npz")
    elif how == "torchrun":
        assert (
            main(["partition", "digits", "--parts", "2", "--out", str(parts), "--overwrite"]) == 0
        )
        assert not (parts / "graph.json").exists()
        assert not list(parts.glob("part*/*.dgl"))
    else:
        shutil.rmtree(parts)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "part1/node_feat.dgl: cannot be read (No such file"),
        ("of another graph", "part1/graph.dgl: is not the part that parts.yaml names"),
        ("labels", "nodes.npz: is not the part"),
        ("torchrun", "was cut for torchrun, and distdgl trains"),
        ("gone", "holds no parts"),
    ],
)
def test_parts_that_are_not_there(parts, tmp_path, how, words, capsys, monkeypatch):
    monkeypatch.setattr(distdgl_launch, "_Processes", None)
    spoil(parts, how, tmp_path)
    capsys.readouterr()
    assert main(command(tmp_path, parts)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_parts_for_distdgl_are_none_for_torchrun(digits):
    with pytest.raises(ConfigError, match="was cut for distdgl, and torchrun trains"):
        Parts(digits, 0, 2)


def test_no_room(digits, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(distdgl_launch, "_Processes", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1e6, 9e5, 1e5))
    assert main(command(tmp_path, digits)) == 2
    assert f"{SHARED}: the features of the parts of this host take" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    before = {path: path.read_bytes() for path in digits.rglob("*") if path.is_file()}
    task = distdgl_worker.small_task()
    task.graph.ndata["feat"] = torch.zeros(60, 500)
    with pytest.raises(OutputError, match="the parts take 0 MB, and 0 MB are free; make room"):
        write_parts(task, {}, 2, digits, engine="distdgl", overwrite=True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("number", ["1", "0", "1798"])
def test_parts_that_cannot_be(number, tmp_path, capsys):
    out = tmp_path / "parts"
    cut = ["partition", "digits", "--parts", number, "--engine", "distdgl", "--out", str(out)]
    assert main(cut) == 2
    assert f"--parts {number}: digits has 1797 nodes" in capsys.readouterr().err
    assert not out.exists()


def test_a_part_without_edges(tmp_path):
    task = distdgl_worker.small_task()
    with pytest.raises(ConfigError, match="would have no in-edges"):
        write_parts(task, {}, 60, tmp_path / "parts", engine="distdgl")
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("10.0.0.1\n", "names 1 servers, and there are 2 parts"),
        ("10.0.0.1 3\n10.0.0.1 3\n", "a port of its own"),
        ("10.0.0.1 3\n10.0.0.1 4\n", "a port of its own"),
        ("here\n10.0.0.1\n", "'here' is no line IP"),
        ("10.0.0.1 70000\n10.0.0.1\n", "is no line IP"),
        ("198.51.100.1\n198.51.100.2\n", "no line is of this host"),
    ],
)
def test_hosts_that_cannot_be(digits, tmp_path, said, words, capsys, monkeypatch):
    monkeypatch.setattr(distdgl_launch, "_Processes", None)
    hosts = tmp_path / "ip_config.txt"
    hosts.write_text(said)
    assert main(command(tmp_path, digits, "--ip-config", str(hosts))) == 2
    assert words in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot be read"):
        distdgl_launch._hosts(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", ["1", "2"])
def test_two_hosts(epochs, digits, tmp_path):
    """Each is told the same; another recipe is refused by both."""
    ports = free_ports(2)
    hosts = tmp_path / "ip_config.txt"
    hosts.write_text("".join(f"127.0.0.{k} {port}\n" for k, port in enumerate(ports, 1)))
    run = command(tmp_path, digits, "--ip-config", str(hosts), "--epochs")
    code = (
        "import sys; from lipzoo.cli import main; from lipzoo.training import distdgl_launch as d\n"
        "d._is_here = lambda ip: ip == sys.argv[1]\n"
        "if __name__ == '__main__': sys.exit(main(sys.argv[2:]))\n"
    )
    (tmp_path / "host.py").write_text(code)
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    processes = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "host.py"), f"127.0.0.{k}", *run, number],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k, number in enumerate(("1", epochs), 1)
    ]
    try:
        said = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    same = epochs == "1"
    assert [process.returncode for process in processes] == ([0, 0] if same else [2, 2]), said
    assert (tmp_path / "run/summary.yaml").exists() is same
    for _, words in said:
        assert "Traceback" not in words
        assert same or "process 1 was given another recipe" in words


def test_engine_and_parts_go_together(tmp_path, capsys):
    run = ["train", recipe_file(tmp_path), "--out", str(tmp_path / "run")]
    for more in (["--engine", "distdgl"], ["--ip-config", "x"], ["--parts", "x"]):
        assert main([*run, *more]) == 2
        assert "--engine distdgl" in capsys.readouterr().err
