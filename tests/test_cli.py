"""The command line run as a user runs it: what it prints, what it writes, its exit codes."""

import csv
import inspect
import json
import subprocess
import sys

import pytest

import lipzoo
from lipzoo.cli import COMMANDS, main, make_parser
from lipzoo.lipschitz import certify
from lipzoo.report import make_report
from lipzoo.training import finetune, train

RECIPE = """
architecture: test_tiny
dataset: {name: iris}
epochs: 10
seeds: 0..1
eval_every: 5
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run and its checkpoint, made by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "recipe.yaml").write_text(RECIPE)
    run, checkpoint = folder / "run", folder / "checkpoint"
    assert main(["train", str(folder / "recipe.yaml"), "--out", str(run), "--quiet"]) == 0
    assert main(["export", str(run), "--out", str(checkpoint)]) == 0
    return folder


def output(capsys, *argv):
    capsys.readouterr()
    assert main([str(arg) for arg in argv]) == 0
    return capsys.readouterr().out


def test_as_a_program():
    """Installed as ``lipzoo``: one real process, with its help and version."""
    run = subprocess.run(
        [sys.executable, "-m", "lipzoo.cli", "--version"], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout.strip()) == (0, f"lipzoo {lipzoo.__version__}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"lipzoo {command}" in capsys.readouterr().out


def parser_of(command):
    [commands] = [a for a in make_parser()._actions if isinstance(a.choices, dict)]
    return commands.choices[command].filled()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_text_and_says_its_default(command):
    parser = parser_of(command)
    shown = " ".join(parser.format_help().split())
    assert shown.count("{") == shown.count("}")
    for action in parser._actions:
        assert action.help, action.dest
        if action.option_strings and action.default not in (None, False, [], "==SUPPRESS=="):
            assert f"(default: {action.default})" in shown, action.dest


@pytest.mark.parametrize(
    ("command", "function"),
    [("finetune", finetune), ("train", train), ("certify", certify), ("report", make_report)],
)
def test_defaults_are_those_of_the_function(command, function):
    defaults = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    parser = parser_of(command)
    shared = {a.dest for a in parser._actions if a.option_strings} & set(defaults)
    assert len(shared) >= 2
    for name in shared - {"out"}:
        assert parser.get_default(name) == defaults[name], name


def test_an_unknown_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("lipzoo: ")
    assert "train" in line


def test_list(capsys):
    header, *rows = output(capsys, "list", "gat_lip_*").splitlines()
    assert header.split() == ["name", "layers", "width", "heads", "norm"]
    assert [row.split()[0] for row in rows] == lipzoo.list_models("gat_lip_*")
    assert rows[2].split() == ["gat_lip_8", "8", "64", "8", "lipschitz"]
    assert json.loads(output(capsys, "list", "--json")) == lipzoo.list_models()
    pretrained = json.loads(output(capsys, "list", "--pretrained", "--json"))
    assert pretrained == lipzoo.list_models(pretrained=True)


def test_info(trained, capsys):
    assert "LipschitzNorm" in output(capsys, "info", "gat_lip_16")
    card = json.loads(output(capsys, "info", trained / "checkpoint", "--json"))
    assert card["name"] == "test_tiny"
    assert "over seeds 0, 1" in output(capsys, "info", trained / "checkpoint")


def test_evaluate_gives_the_figures_on_the_card(trained, capsys):
    facts = json.loads(output(capsys, "evaluate", trained / "checkpoint", "--json"))
    card = lipzoo.load_pretrained(trained / "checkpoint").card
    assert facts["name"] == "test_tiny.iris"
    assert facts["dataset"] == "iris"
    assert facts["metrics"] == pytest.approx(card.weights.metrics, abs=1e-7)


def test_evaluate_with_other_options(trained, capsys):
    path = trained / "checkpoint"
    erased = json.loads(
        output(capsys, "evaluate", path, "--json", "--data-option", "missing_rate=1.0")
    )
    whole = json.loads(output(capsys, "evaluate", path, "--json"))
    assert erased["metrics"]["train_loss"] != whole["metrics"]["train_loss"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("k=[", "--data-option k=[: the value is no valid YAML (did not find"),
        ("k", "--data-option k: must look like key=value"),
        ("k.n=1", "iris: k: input should be a valid integer"),
        ("split_seed=a", "iris: split_seed: input should be a valid integer, got 'a'"),
        ("raw_dir=/", "--data-option raw_dir: say --raw-dir instead"),
        ("name_or_path=wine", "--data-option name_or_path: say --data instead"),
    ],
)
def test_data_options_that_are_wrong(trained, capsys, option, words):
    assert main(["evaluate", str(trained / "checkpoint"), "--data-option", option]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_certify(trained, tmp_path, capsys):
    out = tmp_path / "certificate"
    facts = json.loads(
        output(
            capsys,
            *("certify", trained / "checkpoint", "--out", out, "--iterations", "3", "--json"),
        )
    )
    assert 0 < facts["estimate"] <= facts["bound"]["frobenius"]
    assert (out / "report.html").is_file()
    card = lipzoo.load_pretrained(trained / "checkpoint").card
    assert card.lipschitz.bound == pytest.approx(facts["bound"]["frobenius"])


def test_train_says_what_it_reached(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(RECIPE)
    text = output(
        capsys,
        "train",
        tmp_path / "r.yaml",
        "--out",
        tmp_path / "run",
        "--seeds",
        "3",
        "--set",
        "epochs=20",
    )
    assert text.splitlines()[0] == "test_tiny.iris, 1 seed"
    assert "±" not in text  # of one seed there is no spread
    assert (tmp_path / "run" / "seed_3" / "result.yaml").is_file()


def test_tune(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "space.yaml").write_text("optimizer.lr: [0.01, 0.03]\n")
    command = ["tune", tmp_path / "r.yaml", "--space", tmp_path / "space.yaml", "--trials", "2"]
    capsys.readouterr()
    assert main([*map(str, command), "--out", f"{tmp_path}/out", "--set", "epochs=4"]) == 0
    printed = capsys.readouterr()
    assert "2 of 2 trials to do" in printed.err
    assert printed.err.count("[2/2] trial 1: complete 0.") == 1
    assert f"lipzoo train {tmp_path}/out/best.yaml --out DIR trains it" in printed.out
    again = output(capsys, *command, "--out", tmp_path / "out", "--set", "epochs=4", "--json")
    assert json.loads(again)["trials"] == {"complete": 2}


def test_finetune_predict_and_load_again(trained, tmp_path, capsys):
    checkpoint = tmp_path / "wine"
    facts = json.loads(
        output(
            capsys,
            "finetune",
            trained / "checkpoint",
            "--data",
            "wine",
            "--out",
            checkpoint,
            "--epochs",
            20,
            "--json",
        )
    )
    assert facts["replaced"] == ["input", "head"]
    again = json.loads(output(capsys, "evaluate", checkpoint, "--json"))
    assert again["metrics"] == pytest.approx(facts["metrics"], abs=1e-7)
    table = tmp_path / "p.csv"
    assert "178 nodes" in output(capsys, "predict", checkpoint, "--data", "wine", "--out", table)
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 178
    assert set(rows[0]) == {"node", "class", "p_0", "p_1", "p_2"}
    command = ["predict", checkpoint, "--data", "wine", "--overwrite", "--out", table]
    said = output(capsys, *command, "--nodes", "7,0,7", "--batching", "shadow")
    assert "3 nodes" in said
    assert [row["node"] for row in csv.DictReader(table.open())] == ["7", "0", "7"]
    before = table.read_bytes()
    assert main([str(word) for word in (*command, "--nodes", "7,x")]) == 2
    assert "no node 'x'; ids are such as 0, 1, 2, 3, 4" in capsys.readouterr().err
    assert main([str(word) for word in (*command, "--batching", "clusters")]) == 2
    assert "say full, which reads all" in capsys.readouterr().err
    assert table.read_bytes() == before


@pytest.mark.slow
def test_tools_call_the_same_functions(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    tools = [sys.executable, "tools/train.py"], [sys.executable, "tools/export.py"]
    root = lipzoo.__path__[0] + "/.."
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    train = [*tools[0], str(tmp_path / "r.yaml"), "--out", run, "--quiet", "--seeds", "0"]
    subprocess.run(train, check=True, cwd=root, stdout=subprocess.DEVNULL)
    subprocess.run([*tools[1], run, "--out", out], check=True, cwd=root, stdout=subprocess.DEVNULL)
    assert lipzoo.load_pretrained(out).card.full_name == "test_tiny.iris"


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    text = output(capsys, "demo", "--out", tmp_path / "demo")
    card = lipzoo.load_pretrained("gat_lip_16.digits").card
    assert f"the card says {card.weights.metrics['test_accuracy']:.4f}" in text
    assert "16 attention layers" in text
    [folder] = (tmp_path / "demo").iterdir()
    again = lipzoo.load_pretrained(folder)
    assert f"test accuracy {again.card.weights.metrics['test_accuracy']:.4f}" in text
    assert str(folder / "model.safetensors") in text
    printed = output(capsys, "demo", "--out", tmp_path / "demo", "--overwrite", "--json")
    facts = json.loads(printed)
    assert facts["name"] == "gat_lip_16.digits"
    assert facts["evaluated"]["on_the_card"] == card.weights.metrics["test_accuracy"]
    assert facts["loaded_again"]["test_accuracy"] == facts["finetuned"]["metrics"]["test_accuracy"]
    assert facts["files"] == [str(path) for path in sorted(folder.iterdir()) if path.is_file()]
    assert facts["finetuned"]["replaced"] == ["input", "head"]


@pytest.mark.parametrize(
    ("command", "then"),
    [
        (["predict", "gat_lip_2.cora", "--data", "wine", "--out", "p.csv"], "begins again"),
        (["list"], "begins again"),
        (["train", "gat_lip_2.cora", "--out", "d"], "with --resume goes on"),
        (["finetune", "gat_lip_2.cora", "--data", "wine", "--out", "d"], "with --resume goes on"),
    ],
)
def test_what_goes_on_with_what_was_stopped(command, then, monkeypatch, capsys):
    def stop(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"lipzoo.cli.{command[0]}.run", stop)
    assert main(command) == 130
    assert f"stopped; the same command {then}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([command[0], "--help"])
    assert ("--resume" in capsys.readouterr().out) == ("--resume" in then)
