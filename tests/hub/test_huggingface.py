"""The Hugging Face Hub, by a server on this machine that speaks its HTTP interface."""

import builtins
import hashlib
import json

import pytest
import torch
import yaml
from checkpoints import card, content, small_model
from hub_zoo import assert_is_small
from loopback import hub_server

import lipzoo
from lipzoo import weights
from lipzoo.cli import main
from lipzoo.errors import CheckpointError, ConfigError, OutputError, UnknownNameError
from lipzoo.hub import fetch, huggingface
from lipzoo.hub.push import push_to_hub
from lipzoo.info import decisive
from lipzoo.weights import read_checkpoint, write_checkpoint

library = pytest.importorskip("huggingface_hub")
from huggingface_hub import constants  # noqa: E402

from lipzoo.hub.model_card import model_card  # noqa: E402


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """A Hub without repositories, and an empty cache. The library reads its variables once."""
    for name in ("LIPZOO_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with hub_server() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        library.close_session()
        yield server
    library.close_session()


def other(tmp_path, seed=1):
    return write_checkpoint(tmp_path / f"seed_{seed}", small_model(seed), card())


def files_on(hub, repo="jane/cora"):
    return hub.files[repo][-1][2]


# --------------------------------------------------------------------- round trip


def test_push_and_load(hub, checkpoint):
    address = push_to_hub(checkpoint, "jane/cora")
    assert address == f"{hub.url}/jane/cora/commit/{hub.files['jane/cora'][-1][1]}"
    files = files_on(hub)
    assert sorted(files) == ["README.md", "card.yaml", "model.safetensors"]
    for name in ("card.yaml", "model.safetensors"):
        assert files[name] == (checkpoint / name).read_bytes()
    assert len(hub.files["jane/cora"]) == 1, "all in one commit"
    model = lipzoo.load_pretrained("hf-hub:jane/cora")
    assert_is_small(model)
    assert model.card == read_checkpoint(checkpoint).card


def test_the_training_curve_goes_up_and_hinders_no_download(hub, tmp_path):
    rows = [{"epoch": n, "train_loss": 1 / n, "val_loss": 1.0} for n in (1, 2, 3)]
    folder = write_checkpoint(tmp_path / "x", small_model(), card(), history=rows)
    push_to_hub(folder, "jane/cora")
    assert files_on(hub)["curve.csv"] == (folder / "curve.csv").read_bytes()
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))
    files_on(hub)["curve.csv"] = b"damaged"
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))


def test_push_by_name(hub, checkpoint, monkeypatch):
    monkeypatch.setenv("LIPZOO_PRETRAINED_PATH", str(checkpoint.parent))
    push_to_hub("gat_lip_2.test", "jane/cora")
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))


def test_push_a_model(hub, checkpoint):
    push_to_hub(lipzoo.load_pretrained(checkpoint), "jane/cora")
    assert files_on(hub)["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    again = lipzoo.load_pretrained("hf-hub:jane/cora")
    push_to_hub(again, "jane/copy")
    assert files_on(hub, "jane/copy")["card.yaml"] == (checkpoint / "card.yaml").read_bytes()


def test_a_model_that_was_trained_on_is_refused(hub, checkpoint):
    model = lipzoo.load_pretrained(checkpoint)
    with torch.no_grad():
        model.head.bias += 1
    with pytest.warns(UserWarning, match="head left out"):
        wider = lipzoo.load_pretrained(checkpoint, num_classes=3)
    with pytest.raises(CheckpointError, match=r"with other arguments .*\(num_classes\)"):
        push_to_hub(wider, "jane/cora")
    with pytest.raises(CheckpointError, match="have changed"):
        push_to_hub(lipzoo.load_pretrained(checkpoint).double(), "jane/cora")
    with pytest.raises(CheckpointError, match=r"have changed since they were loaded.*export"):
        push_to_hub(model, "jane/cora")
    with pytest.raises(CheckpointError, match="a DeepGAT that load_pretrained did not return"):
        push_to_hub(small_model(), "jane/cora")
    assert not hub.files, "nothing was made"


def test_a_damaged_folder_is_not_pushed(hub, checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="its length is not the one on the card"):
        push_to_hub(checkpoint, "jane/cora")
    assert not hub.files


def test_a_second_push_and_revisions(hub, checkpoint, tmp_path):
    push_to_hub(checkpoint, "jane/cora")
    first = hub.files["jane/cora"][-1][1]
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))
    push_to_hub(other(tmp_path), "jane/cora", message="better")
    push_to_hub(other(tmp_path, 2), "jane/cora", revision="dev")
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"), seed=1)
    assert_is_small(lipzoo.load_pretrained(f"hf-hub:jane/cora@{first}"), seed=0)
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora@dev"), seed=2)
    with pytest.raises(UnknownNameError, match="no such revision"):
        fetch("hf-hub:jane/cora@absent")


@pytest.mark.parametrize("private", [None, True, False])
def test_private(hub, checkpoint, private):
    push_to_hub(checkpoint, "jane/cora", private=private)
    [asked] = hub.created
    wanted = {None: None, True: "private", False: "public"}[private]
    assert asked.get("visibility") == wanted


def test_a_token(hub, checkpoint, monkeypatch):
    hub.token = "secret"
    with pytest.raises(OutputError, match=r"log in with `hf auth login`"):
        push_to_hub(checkpoint, "jane/cora")
    with pytest.raises(OutputError, match=r"log in with `hf auth login`") as caught:
        push_to_hub(checkpoint, "jane/cora", token="wrong")
    assert "wrong" not in str(caught.value)
    push_to_hub(checkpoint, "jane/cora", token="secret")
    with pytest.raises(UnknownNameError, match=r"private or gated.*log in"):
        fetch("hf-hub:jane/cora")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))


def test_data_named_by_a_path(hub, tmp_path):
    entry = {"name": "/home/jane/graph.npz", "options": {}, "fingerprint": "1"}
    folder = write_checkpoint(tmp_path / "a", small_model(), card(dataset=entry))
    with pytest.warns(UserWarning, match=r"by a path of this machine .*graph\.npz"):
        push_to_hub(folder, "jane/cora")


def test_the_command_line(hub, checkpoint, capsys):
    assert main(["push", str(checkpoint), "jane/cora", "--private", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["name"] == "hf-hub:jane/cora"
    assert printed["commit"].startswith(f"{hub.url}/jane/cora/commit/")
    assert hub.created[0]["visibility"] == "private"
    assert main(["info", printed["name"]]) == 0
    assert "gat_lip_2.test" in capsys.readouterr().out
    assert main(["push", str(checkpoint), "jane"]) == 2
    assert "must look like user/name" in capsys.readouterr().err


# -------------------------------------------------------------------------- fetching


def test_a_second_load_fetches_nothing(hub, checkpoint):
    push_to_hub(checkpoint, "jane/cora")
    folder = fetch("hf-hub:jane/cora")
    hub.log.clear()
    assert fetch("hf-hub:jane/cora") == folder
    assert {method for method, _, _ in hub.log} == {"HEAD"}


def test_card_and_weights_are_of_one_commit(hub, checkpoint, tmp_path, monkeypatch):
    """Someone pushes between the two requests."""
    push_to_hub(checkpoint, "jane/cora")
    fetch_file = huggingface._fetch_file

    def and_then_push(library, repo_id, file, *rest):
        path = fetch_file(library, repo_id, file, *rest)
        if file == "card.yaml":
            push_to_hub(other(tmp_path), "jane/cora")
        return path

    monkeypatch.setattr(huggingface, "_fetch_file", and_then_push)
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"), seed=0)
    fetched = [path for method, path, _ in hub.log if method == "GET" and "/cdn/" in path]
    assert len(fetched) == 1, "the newer weights are not even fetched"


def test_weights_that_are_not_the_cards(hub, checkpoint):
    push_to_hub(checkpoint, "jane/cora")
    wrong = b"x" * len(files_on(hub)["model.safetensors"])
    hub.lfs[hashlib.sha256(wrong).hexdigest()] = wrong
    files_on(hub)["model.safetensors"] = wrong
    with pytest.raises(CheckpointError, match="its hash is not the one on the card"):
        lipzoo.load_pretrained("hf-hub:jane/cora")


def test_a_damaged_cache_heals(hub, checkpoint):
    push_to_hub(checkpoint, "jane/cora")
    file = fetch("hf-hub:jane/cora") / "model.safetensors"
    file.resolve().write_bytes(b"short")
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))


def test_sizes_are_bounded(hub, checkpoint):
    push_to_hub(checkpoint, "jane/cora")
    hub.sizes["model.safetensors"] = 2**42
    with pytest.raises(CheckpointError, match=r"model\.safetensors is longer than"):
        fetch("hf-hub:jane/cora")
    assert hub.log.count_of("GET", "model.safetensors", 302) == 0


def test_weights_of_another_length_are_refused_before_their_body(hub, checkpoint):
    push_to_hub(checkpoint, "jane/cora")
    [digest] = hub.lfs
    hub.sizes["model.safetensors"] = 2**20
    with pytest.raises(CheckpointError, match=r"1,048,576 bytes long on the Hub, and the card say"):
        fetch("hf-hub:jane/cora")
    assert hub.log.count_of("GET", digest, 200) == 0


def test_more_comes_than_the_card_says(hub, checkpoint, tmp_path):
    push_to_hub(checkpoint, "jane/cora")
    [digest] = hub.lfs
    hub.endless.add(f"/cdn/{digest}")
    with pytest.raises(CheckpointError, match=r"more than 1,832 bytes came, which is all that it"):
        fetch("hf-hub:jane/cora")
    assert hub.sent < 2**24, "given up at once"
    assert_nothing_is_kept(tmp_path)


@pytest.mark.slow
def test_a_hub_that_is_too_slow_lets_go_of_the_lock(hub, checkpoint, tmp_path, monkeypatch):
    push_to_hub(checkpoint, "jane/cora")
    [digest] = hub.lfs
    hub.trickles.add(f"/cdn/{digest}")
    monkeypatch.setenv("LIPZOO_DOWNLOAD_SECONDS", "8")  # the child's imports are among them
    with pytest.raises(CheckpointError, match=r"took longer than 8 s.*LIPZOO_DOWNLOAD_SECONDS"):
        fetch("hf-hub:jane/cora")
    assert_nothing_is_kept(tmp_path)
    hub.trickles.clear()
    monkeypatch.delenv("LIPZOO_DOWNLOAD_SECONDS")
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))


def assert_nothing_is_kept(tmp_path):
    left = [path for path in (tmp_path / "cache").rglob("*") if path.name.endswith(".incomplete")]
    assert not left


@pytest.mark.parametrize("variable", ["LIPZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(hub, checkpoint, monkeypatch, variable):
    push_to_hub(checkpoint, "jane/cora")
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", variable == "HF_HUB_OFFLINE")
    hub.log.clear()
    with pytest.raises(CheckpointError, match=r"has not been fetched before, and the network is"):
        fetch("hf-hub:jane/cora")
    with pytest.raises(ConfigError, match="unset it to push"):
        push_to_hub(checkpoint, "jane/cora")
    monkeypatch.delenv(variable)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch("hf-hub:jane/cora")
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", variable == "HF_HUB_OFFLINE")
    hub.log.clear()
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))
    assert not hub.log, "no request"


def test_without_a_server(hub, checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 1)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    push_to_hub(checkpoint, "jane/cora")
    fetch("hf-hub:jane/cora")
    hub.shutdown()
    hub.server_close()
    library.close_session()
    assert_is_small(lipzoo.load_pretrained("hf-hub:jane/cora"))
    with pytest.raises(CheckpointError, match=r"not been fetched before, and the Hub cannot be re"):
        fetch("hf-hub:jane/absent")
    with pytest.raises(OutputError, match="jane/cora: "):
        push_to_hub(checkpoint, "jane/cora")


# -------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["", "cora", "jane/", "a/b/c", "jane/cora@", "jane/co ra", "a/-b"])
def test_names_that_are_none(hub, checkpoint, name):
    with pytest.raises(ConfigError):
        fetch(f"hf-hub:{name}")
    if "@" not in name:
        with pytest.raises(ConfigError):
            push_to_hub(checkpoint, name)
    assert not hub.log


def test_what_is_not_there(hub, checkpoint):
    with pytest.raises(UnknownNameError, match="there is no such repository on the Hub"):
        lipzoo.load_pretrained("hf-hub:jane/absent")
    push_to_hub(checkpoint, "jane/cora")
    del files_on(hub)["card.yaml"]
    with pytest.raises(UnknownNameError, match="holds no checkpoint of lipzoo"):
        lipzoo.load_pretrained("hf-hub:jane/cora")


def test_a_card_that_is_none(hub, checkpoint):
    push_to_hub(checkpoint, "jane/cora")
    files_on(hub)["card.yaml"] = b"- a"
    with pytest.raises(CheckpointError, match="must hold a mapping"):
        lipzoo.load_pretrained("hf-hub:jane/cora")


def test_without_the_library(checkpoint, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'lipzoo\[hub\]'"):
        fetch("hf-hub:jane/cora")
    with pytest.raises(ConfigError, match=r"pip install 'lipzoo\[hub\]'"):
        push_to_hub(checkpoint, "jane/cora")


# ------------------------------------------------------------------------ model card


def metadata(text):
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_model_card_of_every_checkpoint_that_ships():
    names = lipzoo.list_models(pretrained=True)
    assert names
    for name in names:
        card = read_checkpoint(weights.list_checkpoints()[name]).card
        meta, body = metadata(model_card(card, "jane/zoo"))
        assert meta["license"] == "apache-2.0"
        assert meta["library_name"] == "lipzoo"
        assert {"dgl", card.name} <= set(meta["tags"])
        assert 'lipzoo.load_pretrained("hf-hub:jane/zoo")' in body
        assert card.weights.sha256 in body
        if card.pretrained_on:  # a body without a head has no figures; its data are several graphs
            assert "model-index" not in meta
            assert all(data.name in body for data in card.pretrained_on)
            assert "tools/pretrain.py" in body
            assert f"width: {card.encoding['width']}" in body
            continue
        [entry] = meta["model-index"]
        assert entry["name"] == name
        found = {m["type"]: m["value"] for r in entry["results"] for m in r["metrics"]}
        metric = decisive(card)
        mean = card.metrics[f"test_{metric}"].mean
        assert found[metric] == pytest.approx(mean, abs=1e-6)
        start = f"| test {metric.replace('_', ' ')} |"
        row = next(line for line in body.splitlines() if line.startswith(start))
        assert f"{mean:.4f}" in row
        # The Hub's own reader takes it.
        data = library.ModelCard(model_card(card, "jane/zoo")).data
        assert [r.metric_value for r in data.eval_results if r.metric_type == metric]


def test_the_model_card_of_the_least_card(hub, tmp_path):
    nan = {"mean": float("nan"), "std": 0, "values": [0]}
    least = card(licence="My own", metrics={"test_accuracy": nan})
    meta, body = metadata(model_card(least, "jane/zoo"))
    assert meta["license"] == "other"
    assert meta["license_name"] == "my-own"
    assert "model-index" not in meta
    assert "## Recipe" not in body
    push_to_hub(write_checkpoint(tmp_path / "a", small_model(), least), "jane/zoo")


def test_text_that_looks_like_yaml_stays_text(tmp_path):
    odd = card(description="a: [b\n---\n# c", source="x: y\n```", licence="mit")
    meta, _ = metadata(model_card(odd, "jane/zoo"))
    assert meta["license"] == "mit"
    assert set(meta) <= {
        *("license", "library_name", "pipeline_tag", "tags", "metrics", "model_name")
    }


def test_no_key_of_the_card_is_forgotten():
    """A new key of the card shows up in the model card, or is left out on purpose here."""
    known = {
        *("name", "tag", "description", "source", "licence", "architecture", "weights"),
        *("dataset", "seeds", "metrics", "baselines", "lipschitz", "recipe", "versions"),
        *("encoding", "pretrained_on", "start"),
        "scaling",  # the data's options name it; the numbers are for programs, in card.yaml
    }
    assert set(type(card()).model_fields) == known
    assert content()["name"] == "gat_lip_2"
