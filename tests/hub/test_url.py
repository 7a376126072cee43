"""Checkpoints behind URLs: verified, resumed, cached."""

import hashlib
import shutil
from pathlib import Path

import pytest
from checkpoints import card, edit_card, small_model
from hub_zoo import CARD, WEIGHTS, assert_is_small, publish
from loopback import file_server

import lipzoo
from lipzoo.errors import CheckpointError, ConfigError
from lipzoo.hub import fetch, is_remote, url
from lipzoo.weights import write_checkpoint

pytestmark = pytest.mark.usefixtures("home")


def digest_of(server):
    return hashlib.sha256(server.files[WEIGHTS]).hexdigest()


# ------------------------------------------------------------------- the good case


def test_what_is_remote():
    assert all(map(is_remote, ["https://a/b", "file:///a", "hf-hub:u/n", "ftp://a"]))
    assert not any(map(is_remote, ["gat_lip_16.cora", "a/b", Path("https://a/b"), "/a", "c:"]))


@pytest.mark.parametrize("ending", ["", "/", "/card.yaml", "/model.safetensors", "?download=1"])
def test_a_url_of_a_folder(server, ending):
    model = lipzoo.load_pretrained(server.address + ending)
    assert_is_small(model)
    assert not model.training
    assert model.card.full_name == "gat_lip_2.test"


def test_a_second_load_fetches_nothing(server):
    folder = fetch(server.address)
    assert fetch(server.address + "/") == folder
    assert server.log.count_of("GET", "card.yaml", 200) == 1
    assert server.log.count_of("GET", "card.yaml", 304) == 1
    assert server.log.count_of("GET", "model.safetensors", 200) == 1


def test_without_validators_only_the_card_comes_again(server):
    server.etags = False
    fetch(server.address)
    fetch(server.address)
    assert server.log.count_of("GET", "card.yaml", 200) == 2
    assert server.log.count_of("GET", "model.safetensors", 200) == 1


def test_a_newer_version_leaves_the_older_alone(server, tmp_path):
    older = fetch(server.address)
    before = {path.name: path.read_bytes() for path in older.iterdir()}
    publish(server, write_checkpoint(tmp_path / "b", small_model(seed=1), card()))
    newer = fetch(server.address)
    assert newer != older
    assert_is_small(lipzoo.load_pretrained(newer), seed=1)
    assert {path.name: path.read_bytes() for path in older.iterdir()} == before


def test_two_urls_are_kept_apart(server, tmp_path):
    other = write_checkpoint(tmp_path / "b", small_model(seed=1), card())
    server.files["/other/gat_lip_2.test/card.yaml"] = (other / "card.yaml").read_bytes()
    server.files["/other/gat_lip_2.test/model.safetensors"] = (
        other / "model.safetensors"
    ).read_bytes()
    assert_is_small(lipzoo.load_pretrained(server.address), seed=0)
    assert_is_small(lipzoo.load_pretrained(f"{server.url}/other/gat_lip_2.test"), seed=1)


def test_the_default_cache(monkeypatch):
    monkeypatch.delenv("LIPZOO_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert url.lipzoo_home() == Path("/somewhere/.cache/lipzoo")


@pytest.mark.parametrize("ending", ["", "/", "/card.yaml"])
def test_a_file_url_is_read_where_it_lies(tmp_path, checkpoint, home, ending):
    folder = tmp_path / "a folder with spaces, ü and #"
    shutil.copytree(checkpoint, folder)
    assert fetch(folder.as_uri() + ending) == folder
    assert_is_small(lipzoo.load_pretrained(folder.as_uri()))
    assert not home.exists()


# --------------------------------------------------------------------------- hashes


def test_a_pinned_hash(server, checkpoint):
    pin = f"#sha256={digest_of(server)}"
    assert_is_small(lipzoo.load_pretrained(server.address + pin))
    assert_is_small(
        lipzoo.load_pretrained(checkpoint.as_uri() + pin.upper().replace("#SHA", "#sha"))
    )


@pytest.mark.parametrize("kind", ["http", "file", "offline"])
def test_a_pinned_hash_of_other_weights(server, checkpoint, monkeypatch, kind):
    address = checkpoint.as_uri() if kind == "file" else server.address
    if kind == "offline":
        fetch(address)
        monkeypatch.setenv("LIPZOO_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="asks for: they were replaced"):
        lipzoo.load_pretrained(f"{address}#sha256={'0' * 64}")
    if kind == "http":
        assert server.log.count_of("GET", "model.safetensors", 200) == 0, "not even fetched"


@pytest.mark.parametrize("pin", ["sha256=12", "md5=" + "0" * 32, "main", "0" * 64])
def test_a_pin_that_is_none(pin):
    with pytest.raises(ConfigError, match="must be sha256="):
        fetch(f"https://localhost/x#{pin}")


def test_weights_that_are_not_the_cards(server):
    server.files[WEIGHTS] = server.files[WEIGHTS][:-1] + b"!"
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"hash is not the one the card says .*try again"):
            lipzoo.load_pretrained(server.address)
    assert not list(url.lipzoo_home().rglob("model.safetensors*")), "nothing wrong is kept"


def test_a_card_without_a_hash(server, checkpoint):
    edit_card(checkpoint, lambda content: content["weights"].pop("sha256"))
    publish(server, checkpoint)
    with pytest.raises(CheckpointError, match="gives no sha256"):
        lipzoo.load_pretrained(server.address)


@pytest.mark.parametrize("damage", ["weights", "card", "index", "weights gone"])
def test_a_damaged_cache_heals(server, home, damage):
    folder = fetch(server.address)
    if damage == "weights":
        (folder / "model.safetensors").write_bytes(b"short")
    elif damage == "weights gone":
        (folder / "model.safetensors").unlink()
    elif damage == "card":
        (folder / "card.yaml").write_text("name: [")
    else:
        (folder.parent / "index.yaml").write_text("version: ../../..\nvalidators: {}\n")
    assert_is_small(lipzoo.load_pretrained(server.address))


# --------------------------------------------------------------------------- resume


def test_a_download_that_breaks_off_goes_on(server):
    size = len(server.files[WEIGHTS])
    server.cuts[WEIGHTS] = [size // 3, size // 4]
    assert_is_small(lipzoo.load_pretrained(server.address))
    assert server.log.count_of("GET", "model.safetensors", 200) == 1
    assert server.log.count_of("GET", "model.safetensors", 206) == 2, "from where it broke off"


def test_a_later_call_goes_on_where_an_earlier_gave_up(server):
    size = len(server.files[WEIGHTS])
    server.cuts[WEIGHTS] = [size // 32 * 16, 0, 0, 0]
    with pytest.raises(CheckpointError, match=r"cannot be fetched .*the next call goes on"):
        fetch(server.address)
    [part] = url.lipzoo_home().rglob("*.part")
    assert part.read_bytes() == server.files[WEIGHTS][: size // 32 * 16]
    with pytest.raises(CheckpointError, match="has not been fetched before"):
        url._cached(part.parents[1], server.address, None, "")
    server.log.clear()
    assert_is_small(lipzoo.load_pretrained(server.address))
    assert server.log.count_of("GET", "model.safetensors", 206) == 1
    assert server.log.count_of("GET", "model.safetensors", 200) == 0
    assert not part.exists()


def test_a_server_without_ranges(server):
    server.ranges = False
    server.cuts[WEIGHTS] = [100]
    assert_is_small(lipzoo.load_pretrained(server.address))
    assert server.log.count_of("GET", "model.safetensors", 200) == 2


@pytest.mark.parametrize("extra", [b"", b"too long"], ids=["wrong bytes", "past the end"])
def test_a_part_of_another_file_is_fetched_anew(server, extra):
    size = len(server.files[WEIGHTS])
    server.cuts[WEIGHTS] = [size // 32 * 16, 0, 0, 0]
    with pytest.raises(CheckpointError):
        fetch(server.address)
    [part] = url.lipzoo_home().rglob("*.part")
    part.write_bytes(b"x" * (size if extra else 100) + extra)
    assert_is_small(lipzoo.load_pretrained(server.address))


def test_a_whole_part_needs_no_byte(server):
    """Killed between the last byte and the rename."""
    size = len(server.files[WEIGHTS])
    server.cuts[WEIGHTS] = [size // 32 * 16, 0, 0, 0]
    with pytest.raises(CheckpointError):
        fetch(server.address)
    [part] = url.lipzoo_home().rglob("*.part")
    part.write_bytes(server.files[WEIGHTS])
    server.log.clear()
    assert_is_small(lipzoo.load_pretrained(server.address))
    assert len(server.log) == 1, "the card"


def test_a_whole_part_of_a_card_that_says_no_length(server, checkpoint):
    edit_card(checkpoint, lambda content: content["weights"].pop("num_bytes"))
    publish(server, checkpoint)
    size = len(server.files[WEIGHTS])
    server.cuts[WEIGHTS] = [size // 32 * 16, 0, 0, 0]
    with pytest.raises(CheckpointError):
        fetch(server.address)
    [part] = url.lipzoo_home().rglob("*.part")
    part.write_bytes(server.files[WEIGHTS])
    assert_is_small(lipzoo.load_pretrained(server.address))
    assert server.log.count_of("GET", "model.safetensors", 416) == 1


def test_a_card_that_breaks_off(server):
    server.cuts[CARD] = [10, 20]
    assert_is_small(lipzoo.load_pretrained(server.address))


def test_https(checkpoint, certificate, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with file_server(certificate) as server:
        publish(server, checkpoint)
        address = f"{server.url}/zoo/gat_lip_2.test"
        with pytest.raises(CheckpointError, match=r"(?i)certificate"):
            fetch(address)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert_is_small(lipzoo.load_pretrained(address))


# -------------------------------------------------------------------------- offline


@pytest.mark.parametrize("variable", ["LIPZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(server, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(CheckpointError, match=r"has not been fetched before, and the network is"):
        fetch(server.address)
    monkeypatch.delenv(variable)
    fetch(server.address)
    monkeypatch.setenv(variable, "TRUE")
    server.log.clear()
    assert_is_small(lipzoo.load_pretrained(server.address))
    assert not server.log, "no request"


@pytest.mark.parametrize("trouble", ["gone", "HTTP 503", "weights of a new version"])
def test_without_a_server_what_was_fetched_is_taken(server, trouble, tmp_path):
    fetch(server.address)
    if trouble == "gone":
        server.shutdown()
        server.server_close()
    elif trouble == "HTTP 503":
        server.statuses[CARD] = 503
    else:
        publish(server, write_checkpoint(tmp_path / "b", small_model(seed=1), card()))
        server.statuses[WEIGHTS] = 503
    with pytest.warns(UserWarning, match="taking what was fetched before"):
        assert_is_small(lipzoo.load_pretrained(server.address))


def test_no_server(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match=r"Connection refused.*check the address and the net"):
        fetch(server.address)
