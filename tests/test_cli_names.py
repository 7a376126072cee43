"""`lipzoo list`, `copy`, `completion`, and names that mean nothing."""

import json
import os
import pty
import shutil
import subprocess

import pytest

import lipzoo
from lipzoo._tables import text_table
from lipzoo.cli import COMMANDS, command, main
from lipzoo.cli.completion import DATASETS
from lipzoo.errors import ConfigError
from lipzoo.info import percent
from lipzoo.listing import list_rows
from lipzoo.models import count_parameters
from lipzoo.registry import find_checkpoint, get_architecture
from lipzoo.training import load_recipe


def printed(capsys, *argv):
    capsys.readouterr()
    assert main([str(arg) for arg in argv]) == 0
    return capsys.readouterr().out


def refused(capsys, *argv):
    capsys.readouterr()
    assert main([str(arg) for arg in argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    return line


def listed(capsys, *argv):
    return json.loads(printed(capsys, "list", "--json", *argv))


# ---------------------------------------------------------------------- list


def test_the_table_of_weights_is_that_of_the_cards(capsys):
    header, *lines = printed(capsys, "list", "--pretrained").splitlines()
    names = lipzoo.list_models(pretrained=True)
    assert [line.split()[0] for line in lines] == names
    line = lines[names.index("gat_lip_16.digits")]
    card = find_checkpoint("gat_lip_16.digits").card
    for words in (
        *("64", "lipschitz", f"{card.weights.num_parameters:,}", "digits", "accuracy"),
        percent(card.metrics["test_accuracy"]),
        f"{card.weights.num_bytes / 1e6:.2f} MB",
    ):
        assert f"  {words}" in line
    for column in ("layers", "parameters", "graph", "metric", "test %", "size"):
        # Columns are aligned: each begins, or ends, where its head does.
        start = header.index(column)
        assert all(line[start - 1] == " " or line[start + len(column) - 1] != " " for line in lines)


def test_filters(capsys):
    weights = lipzoo.list_models(pretrained=True)
    on_cora = listed(capsys, "--graph", "cora")
    assert set(on_cora) < set(weights)
    assert {"gat_lip_16.cora", "gat_lip_universal_16.cora_citeseer_digits"} <= set(on_cora)
    assert "gat_lip_16.digits" not in on_cora
    by_auc = listed(capsys, "--metric", "roc_auc")
    of_mines = [f"gat_lip_lin_{depth}.minesweeper" for depth in (8, 15)]
    assert by_auc == [*of_mines, "gt_lip_sep_4.tolokers"]
    assert listed(capsys, "gat_lip_*", "--layers", "5") == ["gat_lip_5"]
    several = listed(capsys, "gat_lip_res*", "--layers", "8..32")
    assert several == ["gat_lip_res_8", "gat_lip_res_16", "gat_lip_res_32"]
    assert listed(capsys, "--graph", "nowhere") == []


def test_sorted_by_a_column(capsys):
    by_layers = listed(capsys, "gat_lip_res*", "--sort", "layers")
    assert by_layers == [f"gat_lip_res_{depth}" for depth in (64, 32, 16, 8, 2)]
    rows = list_rows(pretrained=True, sort="test %")
    values = [row.values["test %"] for row in rows]
    numbers = [value for value in values if value is not None]
    assert numbers == sorted(numbers, reverse=True)
    assert values[len(numbers) :] == [None] * 3  # without a head, or in context: last


def test_parameters_of_architectures(capsys):
    assert list_rows(metric="accuracy") == [], "an architecture has no metric"
    [row] = list_rows("gat_lip_2", parameters=True)
    model = lipzoo.create_model("gat_lip_2", in_feats=128, num_classes=10)
    assert row.values["parameters"] == count_parameters(model)


def test_what_matches_nothing_is_said(capsys):
    assert "no architectures match 'zzz*'" in refused(capsys, "list", "zzz*")
    line = refused(capsys, "list", "--graph", "cora", "--layers", "3")
    assert "no pretrained weights match '*' --layers '3' --graph 'cora'" in line
    assert listed(capsys, "zzz*") == []
    assert "--sort: no column 'layer'; did you mean 'layers'" in refused(
        capsys, "list", "--sort", "layer"
    )
    assert "did you mean 'roc_auc'" in refused(capsys, "list", "--metric", "roc_acu")
    assert "8 or 8..32" in refused(capsys, "list", "--layers", "many")


def test_weights_that_are_damaged_hide_no_others(tmp_path, capsys, monkeypatch):
    shutil.copytree(find_checkpoint("gat_lip_16.digits").folder, tmp_path / "gat_lip_16.mine")
    (tmp_path / "gat_lip_16.mine" / "model.safetensors").write_bytes(b"cut")
    monkeypatch.setenv("LIPZOO_PRETRAINED_PATH", str(tmp_path))
    capsys.readouterr()
    assert main(["list", "gat_lip_16*", "--pretrained"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        *("gat_lip_16.cora", "gat_lip_16.digits", "gat_lip_16.mine")
    ]
    assert "its length is not the one on the card" in err


def test_what_is_for_tests_is_in_no_list(capsys):
    assert "test_tiny" not in lipzoo.list_models()
    assert "test_tiny" not in refused(capsys, "evaluate", "gat_lip_17")
    assert get_architecture("test_tiny").hidden
    assert "Tiny model" in printed(capsys, "info", "test_tiny")


def test_bold_on_a_terminal_only(monkeypatch):
    assert command.heading("name") == "name"
    with os.fdopen(pty.openpty()[1], "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert command.heading("name") == "\x1b[1mname\x1b[0m"
        monkeypatch.setenv("NO_COLOR", "1")
        assert command.heading("name") == "name"


def test_text_table():
    rows = [{"name": "a", "size": "1,000"}, {"name": "bcd", "size": "-"}]
    assert text_table(rows) == ["name   size", "a     1,000", "bcd       -"]


# ---------------------------------------------------------------------- copy


def test_copy_a_recipe(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = json.loads(printed(capsys, "copy", "gat_lip_16.digits", "--json"))
    assert facts == {"file": "gat_lip_16.digits.yaml", "kind": "recipe"}
    assert load_recipe(tmp_path / facts["file"]) == load_recipe("gat_lip_16.digits")
    (tmp_path / facts["file"]).write_text("mine")
    assert "exists; choose another" in refused(capsys, "copy", "gat_lip_16.digits")
    assert (tmp_path / facts["file"]).read_text() == "mine"


def test_copy_an_architecture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = printed(capsys, "copy", "gat_lip_res_8")
    assert "LIPZOO_CONFIG_PATH=my_gat_lip_res_8 lipzoo train" in text
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", "my_gat_lip_res_8")
    mine, its = get_architecture("my_gat_lip_res_8"), get_architecture("gat_lip_res_8")
    assert (mine.model, mine.args, mine.source) == (its.model, its.args, its.source)
    assert "exists" in refused(capsys, "copy", "gat_lip_res_8", "--out", "new/gat_lip_8.yaml")
    assert "already exists" in refused(capsys, "copy", "gat_2", "--out", "my_gat_lip_res_8.yaml")
    assert "must end in .yaml" in refused(capsys, "copy", "gat_2", "--out", "mine.yml")
    assert "small letters" in refused(capsys, "copy", "gat_2", "--out", "my.gat.yaml")
    assert "make it first" in refused(capsys, "copy", "gat_2", "--out", "no/mine.yaml")
    assert "did you mean 'gat_lip_16'" in refused(capsys, "copy", "gat_lip_17")
    assert "is a path" in refused(capsys, "copy", "./gat_2")
    assert [path.name for path in tmp_path.iterdir()] == ["my_gat_lip_res_8"]


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, capsys):
    pytest.importorskip("shtab")
    script = printed(capsys, "completion", shell)
    assert all(name in script for name in COMMANDS)
    assert "--pretrained" in script or "pretrained" in script
    if shutil.which(shell) and shell != "fish":
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes(capsys, tmp_path, monkeypatch):
    pytest.importorskip("shtab")
    (tmp_path / "cora_of_mine.npz").touch()
    (tmp_path / "mine_16.folder").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "my_own.yaml").write_text("model: DeepGAT\ndescription: Mine.\n")
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", str(tmp_path / "configs"))
    monkeypatch.chdir(tmp_path)
    script = printed(capsys, "completion", "bash")

    def completed(*words):
        ask = f"COMP_WORDS=({' '.join(words)})\nCOMP_CWORD={len(words) - 1}\n"
        code = f"{script}\n{ask}_shtab_lipzoo\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
        run = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
        return run.stdout.split()

    assert {"finetune"} == set(completed("lipzoo", "fi"))
    assert "--pretrained" in completed("lipzoo", "list", "--pre")
    # Names, and beside them files.
    assert completed("lipzoo", "evaluate", "gat_lip_16.d") == ["gat_lip_16.digits"]
    assert completed("lipzoo", "evaluate", "mine_") == ["mine_16.folder"]
    both = completed("lipzoo", "finetune", "gat_lip_16.digits", "--data", "cora")
    assert both == ["cora", "cora_of_mine.npz"]
    assert completed("lipzoo", "train", "--architecture", "gatv2_lip_1") == ["gatv2_lip_16"]
    assert "my_own" in completed("lipzoo", "train", "my")
    assert completed("lipzoo", "list", "--graph", "win") == ["wine"]
    assert completed("lipzoo", "evaluate", "x", "--metric", "roc") == ["roc_auc"]
    assert completed("lipzoo", "finetune", "x", "--freeze", "all") == ["all-but-head"]
    assert completed("lipzoo", "new", "gat") == []


def test_completion_runs_nothing_that_a_name_says(capsys, tmp_path, monkeypatch):
    pytest.importorskip("shtab")
    odd = "$(touch hacked)"
    (tmp_path / f"{odd}.yaml").write_text("model: DeepGAT\ndescription: Mine.\n")
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", str(tmp_path))
    for shell in ("bash", "zsh", "fish"):
        assert "hacked" not in printed(capsys, "completion", shell)


def test_completion_knows_all_datasets():
    assert list(DATASETS) == lipzoo.datasets.list_datasets()


def test_completion_without_shtab_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    assert "pip install 'lipzoo[completion]'" in refused(capsys, "completion", "bash")


# -------------------------------------------------------- names and no names


@pytest.mark.parametrize("name", ["gat_16", "gat_16.mine"])
def test_an_architecture_without_weights_is_no_misspelt_name(name, capsys):
    line = refused(capsys, "evaluate", name)
    assert f"no weights '{name}': the architecture gat_16 exists" in line
    assert "lipzoo train --architecture gat_16 --data DATA --out DIR" in line
    assert "did you mean" not in line


@pytest.mark.parametrize("name", ["./none", "no/folder", ".none", "~/none-such-folder", "none/"])
@pytest.mark.parametrize("what", ["info", "evaluate"])
def test_a_missing_folder_is_no_architecture(name, what, capsys):
    assert "there is no such folder" in refused(capsys, what, name)


def test_a_body_without_a_head_predicts_nothing(tmp_path, capsys):
    name = "gat_lip_universal_16.cora_citeseer_digits"
    out = tmp_path / "p.csv"
    for argv in (
        ["evaluate", name],
        ["evaluate", name, "--data", "wine"],
        ["predict", name, "--data", "wine", "--out", out],
        ["certify", name, "--data", "wine", "--out", tmp_path / "c"],
        ["report", name, "--data", "wine", "--out", tmp_path / "r"],
    ):
        line = refused(capsys, *argv)
        assert f"{name}: is a body without a head" in line
        assert f"lipzoo finetune {name} --data DATA" in line
    assert not out.exists()
    task = lipzoo.load_dataset("wine")
    body = lipzoo.load_pretrained(name)
    for refuse in (
        lipzoo.training.evaluate,
        lipzoo.training.predict,
        lipzoo.lipschitz.certify,
    ):
        with pytest.raises(ConfigError, match="body without a head"):
            refuse(body, task)


def test_json_says_which_weights_a_bare_name_meant(tmp_path, capsys):
    argv = ["finetune", "gat_lip_16", "--data", "iris", "--epochs", 1, "--out", tmp_path, "--json"]
    assert json.loads(printed(capsys, *argv))["name"] == "gat_lip_16.cora"


def test_metrics_by_name(capsys):
    argv = ["evaluate", "gat_lip_16.digits", "--json"]
    facts = json.loads(printed(capsys, *argv, "--metric", "macro_f1"))
    assert set(facts["metrics"]) >= {"val_macro_f1", "test_macro_f1"}
    assert "did you mean 'roc_auc'" in refused(capsys, *argv, "--metric", "roc_acu")
    assert "is for two classes" in refused(capsys, *argv, "--metric", "roc_auc")
