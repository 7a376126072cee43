"""Several processes that train together: what they compute, write and say."""

import signal
import time

import pytest
import torch
from launch import SMALL, TESTS, ended, recipe_file, start, train

from lipzoo._yaml import read_yaml
from lipzoo.cli import main
from lipzoo.datasets import load_dataset, save_npz
from lipzoo.errors import ConfigError
from lipzoo.training.ranks import seed_of
from lipzoo.training.ranks_parts import Parts


def contents(folder):
    """The bytes of each file but for the lock of who writes."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "lock" not in p.name}


def test_no_two_processes_draw_the_same():
    seeds = {seed_of(seed, rank) for seed in range(50) for rank in range(1, 9)}
    assert len(seeds | set(range(60))) == 400 + 60
    torch.manual_seed(max(seeds))


@pytest.mark.parametrize("number", [2, 3])
def test_gradients_buffers_and_logits_are_those_of_one_process(number):
    """In float64, over families, residual schemes, norms, checkpoints and reversible depth."""
    found = ended(start(number, str(TESTS / "ranks_worker.py")))
    assert [code for code, *_ in found] == [0] * number, found
    assert found[0][1].split() == ["108", "cases"], found[0][1]


def test_a_run_is_that_of_one_process_and_goes_on_to_the_bit(tmp_path):
    recipe = recipe_file(tmp_path)
    for code, _, words in ended(train(2, recipe, tmp_path / "two")):
        assert code == 0, words
    [(code, _, words)] = ended(train(1, recipe, tmp_path / "one"))
    assert code == 0, words
    names = [
        sorted(str(p.relative_to(out)) for p in out.rglob("*") if "events" not in p.name)
        for out in (tmp_path / "one", tmp_path / "two")
    ]
    assert names[0] == names[1]
    results = [read_yaml(tmp_path / out / "seed_0" / "result.yaml") for out in ("one", "two")]
    assert results[0]["best_epoch"] == results[1]["best_epoch"]
    for name, value in results[0]["metrics"].items():
        assert results[1]["metrics"][name] == pytest.approx(value, abs=1e-4), name

    # Half, then the rest, with dropout: as the whole.
    drops = {**SMALL["overrides"], "feat_drop": 0.3, "attn_drop": 0.2}
    weights = {}
    for out, epochs in (("whole", [6]), ("halves", [3, 6])):
        for number in epochs:
            recipe = recipe_file(tmp_path, overrides=drops)
            more = ["--resume"] if number == 6 and len(epochs) == 2 else []
            command = ["--epochs", str(number), *more]
            for code, _, words in ended(train(2, recipe, tmp_path / out, *command)):
                assert code == 0, words
        weights[out] = (tmp_path / out / "seed_0" / "model.safetensors").read_bytes()
    assert weights["halves"] == weights["whole"]

    # Another number of processes would draw other masks: refused, and nothing is touched.
    before = contents(tmp_path / "halves")
    (code, _, words), *_ = ended(train(1, recipe, tmp_path / "halves", "--resume", "--epochs", "9"))
    assert code == 2
    assert "was begun by 2 processes, and now there is 1" in words
    assert contents(tmp_path / "halves") == before


def test_the_first_process_tells_of_training_nodes_of_one_class(tmp_path):
    task = load_dataset("digits")
    label = task.labels.clone()
    label[task.train_mask] = 1
    save_npz(task.with_ndata(label=label), tmp_path / "one.npz")
    recipe = recipe_file(tmp_path, dataset={"name": str(tmp_path / "one.npz")}, epochs=1)
    first, second = ended(train(2, recipe, tmp_path / "out"))
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert first[2].count("all training nodes are of class 1") == 1
    assert "class 1 for every node, and has" not in first[2]
    assert "class 1" not in second[2]


def test_a_killed_process_ends_all_with_a_line_each(tmp_path):
    recipe = recipe_file(tmp_path, epochs=100_000, early_stopping={"patience": 100_000})
    processes = train(2, recipe, tmp_path / "run")
    end = time.monotonic() + 120
    while not list(tmp_path.glob("run/seed_0/metrics.csv")) and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(1)
    processes[1].send_signal(signal.SIGKILL)
    code, _, words = ended(processes, limit=60)[0]
    assert code == 2
    assert "Traceback" not in words
    assert words.splitlines()[-1].startswith("lipzoo: another process of the training ended")


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ({"batching": {"name": "clusters", "method": "contiguous"}}, [], "batching 'clusters'"),
        ({}, ["--jobs", "2"], "leave out --jobs"),
        ({"dataset": {"name": "nowhere"}}, [], "nowhere"),
    ],
)
def test_what_is_not_divided_is_refused(tmp_path, changes, more, words):
    run = ["train", str(recipe_file(tmp_path)), "--out", str(tmp_path / "r")]
    assert main([*run, "--epochs", "1", "--quiet"]) == 0
    before = contents(tmp_path / "r")
    (code, _, said), *others = ended(
        train(2, recipe_file(tmp_path, **changes), tmp_path / "r", "--overwrite", *more)
    )
    assert code == 2
    assert contents(tmp_path / "r") == before
    assert words in said.splitlines()[-1]
    assert "Traceback" not in said
    assert [other[0] for other in others] == [2]
    assert "Traceback" not in others[0][2]


def test_another_recipe_is_refused_by_all(tmp_path):
    mine, its = recipe_file(tmp_path), recipe_file(tmp_path, epochs=7)
    others = [str(its), "--out", str(tmp_path / "run")]
    found = ended(train(2, mine, tmp_path / "run", others=others))
    for code, _, words in found:
        assert code == 2
        assert "process 1 was given another recipe" in words
    assert not (tmp_path / "run").exists()


def test_parts_that_were_cut_before_train_the_same_network(tmp_path):
    recipe, parts = recipe_file(tmp_path), tmp_path / "parts"
    cut = ["-m", "lipzoo.cli", "partition", "digits", "--parts", "2", "--out", str(parts)]
    [(code, said, words)] = ended(start(1, *cut))
    assert code == 0, words
    assert "part 1: " in said
    [(code, _, words)] = ended(start(1, *cut))
    assert (code, "already holds files" in words) == (2, True)
    for out, more in (("cut", ["--parts", str(parts)]), ("whole", [])):
        for code, _, words in ended(train(2, recipe, tmp_path / out, *more)):
            assert code == 0, words
    weights = [(tmp_path / o / "seed_0/model.safetensors").read_bytes() for o in ("cut", "whole")]
    assert weights[0] == weights[1]
    results = [read_yaml(tmp_path / o / "seed_0/result.yaml") for o in ("cut", "whole")]
    assert results[0] == results[1]

    other = recipe_file(tmp_path, dataset={"name": "digits", "missing_rate": 1.0})
    for number, asked, words in (
        (3, recipe, "holds 2 parts, and there are 3 processes"),
        (2, other, "the recipe's data differ in missing_rate"),
        (2, recipe, "part_1.npz: is not the part that parts.yaml names"),
    ):
        if "part_1" in words:
            (parts / "part_1.npz").write_bytes((parts / "part_0.npz").read_bytes())
        found = ended(train(number, asked, tmp_path / "no", "--parts", str(parts), "--overwrite"))
        assert [code for code, *_ in found] == [2] * number
        assert any(words in said for *_, said in found), found
        assert not any("Traceback" in said for *_, said in found)
        assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("parts: 2", "parts.yaml: "),
        ("- 2", "must hold a mapping"),
        ("", "is empty"),
        ("sha256: [1]\nparts: two", "sha256"),
    ],
)
def test_parts_that_say_nothing_of_themselves(said, words, tmp_path):
    (tmp_path / "parts.yaml").write_text(said)
    with pytest.raises(ConfigError, match=words):
        Parts(tmp_path, 0, 2)


@pytest.mark.parametrize("number", ["1", "0", "1798"])
def test_parts_that_cannot_be(number, tmp_path, capsys):
    out = tmp_path / "parts"
    assert main(["partition", "digits", "--parts", number, "--out", str(out)]) == 2
    assert f"--parts {number}: digits has 1797 nodes" in capsys.readouterr().err
    assert not out.exists()
    assert main(["train", "gat_lip_16.digits", "--parts", str(out), "--out", str(out)]) == 2
    assert "torchrun --nproc-per-node" in capsys.readouterr().err
