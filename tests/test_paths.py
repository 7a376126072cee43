"""Names and paths: which of both is meant, and what no file can be called."""

import shutil
from pathlib import Path

import pytest

import lipzoo
from lipzoo._output import OutputFolder
from lipzoo._paths import as_path, find_config, is_path, packaged_folder
from lipzoo.cli import main
from lipzoo.datasets import load_dataset
from lipzoo.datasets.files import looks_like_path
from lipzoo.errors import LipzooError, UnknownNameError
from lipzoo.registry import find_checkpoint
from lipzoo.training import export_run, load_recipe

NAME = "gat_lip_16.digits"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("gat_lip_16.cora", False),
        ("", False),
        ("mine.npz", False),
        ("./gat_lip_16.cora", True),
        ("../x", True),
        ("a/b", True),
        ("/a", True),
        ("a/", True),
        ("~", True),
        ("~nobody", True),
        (".", True),
        ("..", True),
        (Path("gat_lip_16.cora"), True),
        (3, False),
    ],
)
def test_what_looks_like_a_path(given, wanted):
    assert is_path(given) == wanted


def test_a_suffix_of_a_kind_of_file_makes_a_path():
    assert looks_like_path("mine.npz")
    assert not looks_like_path("mine.yaml")
    assert find_config("mine.yaml", Path("recipes"), "recipe") == Path("mine.yaml")


def test_home_is_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert as_path("~/x") == Path("/somewhere/x")


def test_a_folder_does_not_shadow_what_ships(tmp_path, monkeypatch):
    """The name means the shipped weights, recipe and data, whatever lies in this folder."""
    monkeypatch.chdir(tmp_path)
    shipped = find_checkpoint(NAME).folder
    shutil.copytree(packaged_folder("pretrained") / "gat_lip_2.cora", NAME)
    assert find_checkpoint(NAME).folder == shipped
    assert lipzoo.load_pretrained(NAME).num_layers == 16
    assert lipzoo.load_pretrained(f"./{NAME}").num_layers == 2
    assert lipzoo.load_pretrained(Path(NAME)).num_layers == 2
    assert load_recipe(NAME).architecture == "gat_lip_16"
    (tmp_path / "iris").mkdir()
    assert load_dataset("iris").num_nodes == 150
    with pytest.raises(LipzooError, match=r"\./iris|meta\.yaml"):
        load_dataset("./iris")


@pytest.mark.parametrize("look_up", [find_checkpoint, load_dataset, load_recipe])
def test_a_bare_name_of_a_folder_says_how_to_mean_it(look_up, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UnknownNameError, match=r"write \./mine"):
        look_up("mine")


def test_a_relative_path_object_is_loaded_again_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = load_dataset("iris").graph
    folder = write_csv_folder(tmp_path / "mine", graph)
    task = load_dataset(Path(folder.name))
    assert task.name == "./mine"
    assert load_dataset(task.name, **task.options).fingerprint == task.fingerprint


def write_csv_folder(folder, graph):
    folder.mkdir()
    (folder / "meta.yaml").write_text(
        "dataset_name: mine\nedge_data:\n- file_name: edges.csv\nnode_data:\n"
        "- file_name: nodes.csv\n"
    )
    src, dst = graph.edges()
    lines = [f"{a},{b}" for a, b in zip(src.tolist(), dst.tolist())]
    (folder / "edges.csv").write_text("\n".join(["src_id,dst_id", *lines]) + "\n")
    rows = zip(graph.ndata["feat"].tolist(), graph.ndata["label"].tolist())
    lines = [f'{n},"{",".join(map(str, feat))}",{label}' for n, (feat, label) in enumerate(rows)]
    (folder / "nodes.csv").write_text("\n".join(["node_id,feat,label", *lines]) + "\n")
    return folder


#: What no file or name can be.
ODD = {
    "5,000 letters": "a" * 5000,
    "a path of 5,000 letters": "./" + "a" * 5000,
    "a path of 5,000 folders": "a/" * 5000,
    "absent folder, long name": "./absent/" + "a" * 300,
    "nobody": "~nobody_of_that_name/y",
    "a NUL": "a\0b",
    "a NUL in a path": "./a\0b",
    "half a character": "a\udcffb",
    "half a character in a path": "./a\ud800b",
    "lines": "a\nb" * 100,
    "a URL": "https://127.0.0.1/" + "a" * 5000,
    "a URL with a NUL": "https://127.0.0.1/\0",
    "a file URL": "file:///" + "a" * 5000,
    "a repository": "hf-hub:" + "a" * 5000,
    "no string": 3,
    "nothing": None,
}


READERS = {
    "load_pretrained": lipzoo.load_pretrained,
    "create_model": lambda name: lipzoo.create_model(name, in_feats=2, num_classes=2),
    "create_model, pretrained": lambda name: lipzoo.create_model(name, pretrained=True),
    "load_dataset": load_dataset,
    "load_recipe": load_recipe,
    "finetune": lambda name: lipzoo.finetune(name, load_dataset("iris"), verbose=False),
    "add_config_dir": lipzoo.add_config_dir,
    "export_run": export_run,
    "push_to_hub": lambda name: lipzoo.push_to_hub(name, "user/name"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_what_nothing_is_called(reader, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIPZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LIPZOO_OFFLINE", "1" if reader != "push_to_hub" else "0")
    with pytest.raises(LipzooError) as caught:
        READERS[reader](ODD[kind])
    words = str(caught.value)
    assert len(words) < 2000
    assert "\n" not in words
    assert "\0" not in words


@pytest.mark.parametrize("kind", ODD)
def test_folders_that_nothing_can_be_written_to(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LipzooError) as caught:
        OutputFolder(ODD[kind]).prepare()
    assert len(str(caught.value)) < 600
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "variable", ["LIPZOO_CONFIG_PATH", "LIPZOO_PRETRAINED_PATH", "DGL_DOWNLOAD_DIR", "LIPZOO_HOME"]
)
@pytest.mark.parametrize("value", ["~nobody_of_that_name/y", "/" + "a" * 5000])
def test_folders_in_the_environment(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    use = {
        "LIPZOO_CONFIG_PATH": lipzoo.list_models,
        "LIPZOO_PRETRAINED_PATH": lambda: lipzoo.list_models(pretrained=True),
        "DGL_DOWNLOAD_DIR": lambda: load_dataset("cora"),
        "LIPZOO_HOME": lambda: lipzoo.load_pretrained("https://127.0.0.1/x"),
    }[variable]
    with pytest.raises(LipzooError, match=variable):
        use()


@pytest.mark.parametrize(
    "argv",
    [
        ["info", "{}"],
        ["evaluate", "{}"],
        ["evaluate", NAME, "--data", "{}"],
        ["evaluate", NAME, "--raw-dir", "{}", "--data", "cora"],
        ["finetune", NAME, "--data", "iris", "--epochs", "1", "--out", "{}/x"],
        ["train", "{}", "--out", "x"],
        ["train", NAME, "--out", "{}/x"],
        ["predict", NAME, "--data", "digits", "--out", "{}/x"],
        ["certify", "{}"],
        ["report", "{}", "--out", "x"],
        ["report", NAME, "--out", "{}/x"],
        ["export", "{}"],
        ["convert", "{}", "--to", "pt2", "--out", "x"],
        ["convert", NAME, "--to", "pt2", "--out", "{}/x"],
        ["new", "{}"],
        ["new", "mine", "--out", "{}/x"],
        ["demo", "--out", "{}/x"],
        ["push", NAME, "{}"],
        ["{}"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("odd", ["a" * 5000, "~nobody_of_that_name/y", "a\0b", "a\ud800"])
def test_on_the_command_line(argv, odd, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    try:
        code = main([word.format(odd) for word in argv])
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("lipzoo: ")
    assert len(line) < 2100
    assert list(tmp_path.iterdir()) == []
