"""What is not fetched from a URL, and what is said about it."""

import os
import tempfile

import pytest
from checkpoints import edit_card, unwritable_folder
from filelock import FileLock
from hub_zoo import CARD, WEIGHTS, assert_is_small, publish
from loopback import file_server

import lipzoo
from lipzoo._fetch import download, pace
from lipzoo.errors import CheckpointError, ConfigError, OutputError, UnknownNameError
from lipzoo.hub import fetch, is_remote, url

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://example.org/x", "http:// is taken from this machine only"),
        ("http://127.0.0.1.example.org/x", "http:// is taken from this machine only"),
        ("ftp://example.org/x", "ftp:// is not taken; use https://, file:// or hf-hub:"),
        ("s3://bucket/x", "s3:// is not taken"),
        ("https:///x", "names no host"),
        ("https://a:b@example.org/x", "into ~/.netrc"),
        ("https://example.org:port/x", "is no URL"),
        ("https://[::1/x", "is no URL"),
        ("file://example.org/x", "must look like file:///folder"),
        ("file:x/y", None),
    ],
)
def test_addresses_that_are_refused(address, words):
    if words is None:
        assert not is_remote(address)
        return
    with pytest.raises(ConfigError, match=words) as caught:
        lipzoo.load_pretrained(address)
    assert "a:b" not in str(caught.value)


def test_a_file_url_of_nothing(tmp_path):
    with pytest.raises(UnknownNameError, match="there is no folder"):
        fetch((tmp_path / "absent").as_uri())


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, UnknownNameError, "there is no such file .HTTP 404"),
        (403, CheckpointError, "refuses it .HTTP 403.*netrc"),
        (418, CheckpointError, "unexpected answer .HTTP 418"),
        (500, CheckpointError, "try again later"),
    ],
)
@pytest.mark.parametrize("path", [CARD, WEIGHTS])
def test_answers_that_are_no_file(server, path, status, kind, words):
    server.statuses[path] = status
    with pytest.raises(kind, match=words):
        fetch(server.address)


def test_a_redirect_within_the_scheme(server):
    server.redirects[CARD] = "/moved/card.yaml"
    server.headers[CARD] = {"Content_Length": str(2**42)}  # a body that nobody should wait for
    server.redirects[WEIGHTS] = f"{server.url}/moved/model.safetensors"
    for path in (CARD, WEIGHTS):
        server.files[path.replace("/zoo/gat_lip_2.test", "/moved")] = server.files.pop(path)
    assert_is_small(lipzoo.load_pretrained(server.address))


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("https://127.0.0.1/x", CheckpointError, "out of http://, which is not followed"),
        ("file:///etc/passwd", CheckpointError, "out of http://, which is not followed"),
        ("http://example.org/x", ConfigError, "from this machine only"),
        ("//[x", CheckpointError, "which is not followed"),
        (CARD, CheckpointError, "redirected more than 5 times"),
    ],
)
def test_redirects_that_are_not_followed(server, target, kind, words):
    server.redirects[CARD] = target
    with pytest.raises(kind, match=words):
        fetch(server.address)


def test_https_is_not_left_for_http(server, checkpoint, certificate, monkeypatch):
    """Not even for this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with file_server(certificate) as secure:
        secure.redirects[CARD] = server.url + CARD
        with pytest.raises(CheckpointError, match="out of https://, which is not followed"):
            fetch(f"{secure.url}/zoo/gat_lip_2.test")
    assert not server.log


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
def test_a_proxy_is_not_asked_for_this_machine(server, monkeypatch, variable):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert_is_small(lipzoo.load_pretrained(server.address))


def test_sizes_are_bounded(server, monkeypatch):
    monkeypatch.setattr(url, "MAX_WEIGHTS_BYTES", 100)
    with pytest.raises(CheckpointError, match="is longer than 100 bytes"):
        fetch(server.address)
    assert not list(url.lipzoo_home().rglob("model.safetensors*"))
    monkeypatch.setattr(url, "MAX_BYTES", 100)
    with pytest.raises(CheckpointError, match=r"card\.yaml: is longer than 100 bytes"):
        fetch(server.address)


def test_a_length_that_lies(server, checkpoint, monkeypatch):
    """A body that goes on past its limit is stopped, whatever the header says."""
    edit_card(checkpoint, lambda content: content["weights"].pop("num_bytes"))
    publish(server, checkpoint)
    monkeypatch.setattr(url, "MAX_WEIGHTS_BYTES", 100)
    server.headers[WEIGHTS] = {"Content_Length": None, "Connection": "close"}
    with pytest.raises(CheckpointError, match="is longer than 100 bytes"):
        fetch(server.address)


def test_an_endless_body_ends_where_the_card_says(server, monkeypatch):
    monkeypatch.setattr(download, "_BLOCK", 2**14)
    server.endless.add(WEIGHTS)
    with pytest.raises(CheckpointError, match="more than the 1,832 bytes came that the card says"):
        fetch(server.address)
    assert server.sent < 2**24
    assert not list(url.lipzoo_home().rglob("model.safetensors*")), "nothing wrong is kept"


def test_a_length_that_is_not_the_cards_is_refused_before_the_body(server):
    server.files[WEIGHTS] += b"x"
    with pytest.raises(CheckpointError, match="offers 1,833 bytes, and the card says 1,832"):
        fetch(server.address)
    assert not list(url.lipzoo_home().rglob("model.safetensors*"))


def test_a_body_that_ends_too_early(server):
    """Without a length: its end looks like that of the file."""
    server.headers[WEIGHTS] = {"Content_Length": None, "Connection": "close"}
    server.cuts[WEIGHTS] = [320, 0, 0, 0]
    server.files[WEIGHTS] = server.files[WEIGHTS][:320]
    with pytest.raises(CheckpointError):
        fetch(server.address)


@pytest.mark.parametrize("where", ["body", "headers"])
@pytest.mark.parametrize("path", [CARD, WEIGHTS])
def test_a_server_that_is_too_slow(server, monkeypatch, where, path):
    """A byte now and then: no limit between two packets ends it."""
    (server.trickles if where == "body" else server.slow_headers).add(path)
    monkeypatch.setenv("LIPZOO_DOWNLOAD_SECONDS", "1")
    with pytest.raises(CheckpointError, match=r"is given up: it took longer than 1 s, see LIPZOO"):
        fetch(server.address)
    [place] = (url.lipzoo_home() / "urls").iterdir()
    with FileLock(place / ".lock", timeout=0):
        pass
    if where == "body" and path == WEIGHTS:
        [part] = place.rglob("*.part")
        assert 0 < part.stat().st_size < len(server.files[WEIGHTS])
    server.trickles.clear()
    server.slow_headers.clear()
    monkeypatch.setenv("LIPZOO_DOWNLOAD_SECONDS", "60")
    assert_is_small(lipzoo.load_pretrained(server.address))


def test_a_server_below_the_least_rate(server, monkeypatch):
    server.trickles.add(WEIGHTS)
    monkeypatch.setattr(pace, "WINDOW", 0.5)
    with pytest.raises(CheckpointError, match=r"is given up: the server is too slow: \d+ bytes in"):
        fetch(server.address)


def test_who_waits_for_another_does_not_wait_for_ever(server, home, monkeypatch):
    place = home / "urls" / url._slug(server.address)
    place.mkdir(parents=True)
    monkeypatch.setenv("LIPZOO_DOWNLOAD_SECONDS", "0.3")
    words = r"another process has been fetching it for 0\.3 s"
    with FileLock(place / ".lock"), pytest.raises(CheckpointError, match=words):
        fetch(server.address)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_seconds_that_are_none(server, monkeypatch, text):
    monkeypatch.setenv("LIPZOO_DOWNLOAD_SECONDS", text)
    with pytest.raises(ConfigError, match="must be a positive number of seconds"):
        fetch(server.address)


def test_a_length_of_terabytes(server):
    server.headers[WEIGHTS] = {"Content_Length": str(2**42)}
    with pytest.raises(CheckpointError, match="is longer than"):
        fetch(server.address)


def test_a_compressed_body(server):
    server.headers[WEIGHTS] = {"Content_Encoding": "gzip"}
    with pytest.raises(CheckpointError, match="sends it compressed"):
        fetch(server.address)


@pytest.mark.parametrize(
    "content", [b"", b"<html>Not found</html>", b"- a", b"\xff\xfe", b"name: x", b"a: !!python/x"]
)
def test_a_card_that_is_none(server, content):
    server.files[CARD] = content
    with pytest.raises(CheckpointError, match=r"/zoo/gat_lip_2\.test/card\.yaml.*must name a fold"):
        fetch(server.address)
    assert server.log.count_of("GET", "model.safetensors", 200) == 0


def test_a_name_cannot_leave_the_cache(server, home):
    server.files["/zoo/..%2f..%2fx/card.yaml"] = b""
    address = f"{server.url}/zoo/..%252f..%252f..%252fx"
    with pytest.raises((CheckpointError, UnknownNameError)):
        fetch(address)
    assert {path.name for path in home.parent.iterdir()} <= {"home", "made"}
    assert len(list((home / "urls").iterdir())) == 1


def test_a_cache_that_cannot_be_written(server, monkeypatch):
    with unwritable_folder() as folder:
        monkeypatch.setenv("LIPZOO_HOME", str(folder))
        with pytest.raises(OutputError, match="let LIPZOO_HOME name a folder"):
            fetch(server.address)


def test_a_cache_that_someone_filled_and_that_may_only_be_read(server, monkeypatch):
    with tempfile.TemporaryDirectory() as shared:
        os.chmod(shared, 0o755)  # pytest's folders are for their owner only
        monkeypatch.setenv("LIPZOO_HOME", shared)
        folder = fetch(server.address)
        (folder.parent / ".lock").unlink(missing_ok=True)
        os.chmod(folder.parent, 0o555)
        is_root = os.geteuid() == 0
        try:
            if is_root:
                os.seteuid(65534)  # root may write anywhere; nobody may not
            with pytest.warns(UserWarning, match="cannot be written .*taking what was fetched"):
                assert fetch(server.address) == folder
        finally:
            if is_root:
                os.seteuid(0)
            os.chmod(folder.parent, 0o755)
