"""``lipzoo new``: what it writes runs as it is, and nothing is ever replaced."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import unwritable_folder
from registry_state import fresh_registry

import lipzoo
from lipzoo.cli import main
from lipzoo.errors import ConfigError, OutputError
from lipzoo.scaffold import new_architecture


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """What a test adds is gone after it."""
    monkeypatch.delenv("LIPZOO_CONFIG_PATH", raising=False)
    with fresh_registry():
        yield


def test_what_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my_gat"]) == 0
    words = capsys.readouterr().out
    wanted = ["my_gat/my_gat.yaml", "my_gat/recipes/my_gat.wine.yaml", "my_gat/test_my_gat.py"]
    assert all(f"written: {name}" in words for name in wanted)
    assert sorted(str(p) for p in Path().rglob("*") if p.is_file()) == wanted
    assert lipzoo.add_config_dir("my_gat") == ["my_gat"]
    assert lipzoo.create_model("my_gat", in_feats=3, num_classes=2).num_layers == 4


@pytest.mark.parametrize(
    ("command", "out"), [("new my_gat", "my zoo's"), ("copy gat_2", "my zoo's/my_gat.yaml")]
)
def test_what_is_to_be_copied_is_quoted(tmp_path, monkeypatch, capsys, command, out):
    monkeypatch.chdir(tmp_path)
    Path("my zoo's").mkdir()
    assert main([*command.split(), "--out", out]) == 0
    words = capsys.readouterr().out.splitlines()
    setting, *then = shlex.split(words[-1].removeprefix("then: "))
    assert setting == "LIPZOO_CONFIG_PATH=my zoo's"
    assert then[:2] == ["lipzoo", "train"]
    assert main([*command.split(), "--out", out.replace(" ", ":")]) == 2
    assert "must not have ':' in its name" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_written_runs(tmp_path):
    """The test, the recipe and the weights, as a user would run them."""
    test = new_architecture("no", tmp_path / "zoo of mine")[2]  # a word that YAML reads as false
    quiet = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, str(test)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout


def test_its_recipe_trains(tmp_path, monkeypatch, capsys):
    _, recipe, _ = new_architecture("my_gat", tmp_path / "mine")
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", str(tmp_path / "mine"))
    run = str(tmp_path / "run")
    assert main(["train", str(recipe), "--out", run, "--seeds", "0", "--set", "epochs=2"]) == 0
    assert "my_gat.wine" in capsys.readouterr().out


def test_the_code_that_is_written_is_clean(tmp_path):
    pytest.importorskip("ruff")
    test = new_architecture("my_gat", tmp_path / "mine")[2]
    config = Path(__file__).parents[1] / "pyproject.toml"
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check"], ["format", "--check"]):
        subprocess.run([*ruff, *command, "--config", config, test], check=True, capture_output=True)


def test_a_second_architecture_in_the_same_folder(tmp_path):
    new_architecture("first", tmp_path / "mine")
    new_architecture("second", tmp_path / "mine")
    assert lipzoo.add_config_dir(tmp_path / "mine") == ["first", "second"]


@pytest.mark.parametrize(
    "name", ["", "My", "1st", "a-b", "a.b", "a/b", "../x", "a b", "ä", "_a", "a" * 65, "a\n"]
)
def test_odd_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="a name is small letters"):
        new_architecture(name)
    assert not list(tmp_path.iterdir())


def test_words_of_python_are_no_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="'class': is a word of Python's own"):
        new_architecture("class")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gat_lip_16", "gt_8"])
def test_names_that_are_taken(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["new", name]) == 2
    assert f"an architecture '{name}' already exists" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["my_gat.yaml", "recipes/my_gat.wine.yaml", "test_my_gat.py"])
def test_nothing_is_replaced(tmp_path, there):
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"already there; choose another name or --out"):
        new_architecture("my_gat", tmp_path)
    assert path.read_text() == "mine"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        new_architecture("my_gat", tmp_path / "file")
    with unwritable_folder() as folder, pytest.raises(OutputError, match="cannot be written"):
        new_architecture("my_gat", folder)


def test_a_call_that_was_killed_is_gone_on_with(tmp_path):
    """The architecture comes last: without it, the other two files do not stand in the way."""
    made = [path.read_bytes() for path in new_architecture("my_gat", tmp_path)]
    architecture, recipe, test = new_architecture_files(tmp_path)
    architecture.unlink()
    test.unlink()
    assert [path.read_bytes() for path in new_architecture("my_gat", tmp_path)] == made
    architecture.unlink()
    recipe.write_text("mine")
    with pytest.raises(OutputError, match="already there"):
        new_architecture("my_gat", tmp_path)
    assert recipe.read_text() == "mine"


def new_architecture_files(folder):
    return (
        folder / "my_gat.yaml",
        folder / "recipes" / "my_gat.wine.yaml",
        folder / "test_my_gat.py",
    )


def test_a_copy_is_not_put_where_it_could_not_be_found(tmp_path, monkeypatch, capsys):
    """Beside YAML files of other kinds; beside architectures it may stand."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("optimizer.lr: {low: 0.001, high: 0.1}\n")
    assert main(["copy", "gat_lip_8", "--out", "mine.yaml"]) == 2
    assert "leave --out out, which makes one" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]
    (tmp_path / "mine").mkdir()
    for name in ("mine", "other"):
        assert main(["copy", "gat_lip_8", "--out", f"mine/{name}.yaml"]) == 0
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", "mine")
    assert {"mine", "other"} <= {*lipzoo.list_models()}
