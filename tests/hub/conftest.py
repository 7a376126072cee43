"""A checkpoint, a server of its files, an empty cache."""

import shutil
import subprocess

import pytest
from checkpoints import card, small_model
from hub_zoo import publish
from loopback import file_server, quick_downloads

from lipzoo.weights import write_checkpoint


@pytest.fixture
def home(tmp_path, monkeypatch):
    return quick_downloads(monkeypatch, tmp_path / "home")


@pytest.fixture
def checkpoint(tmp_path):
    """The folder of a checkpoint, whose weights are long enough to be cut."""
    return write_checkpoint(tmp_path / "made" / "gat_lip_2.test", small_model(), card())


@pytest.fixture
def server(checkpoint):
    """A server of the files of ``checkpoint``; ``server.address`` is their folder."""
    with file_server() as server:
        publish(server, checkpoint)
        server.address = f"{server.url}/zoo/gat_lip_2.test"
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate of 127.0.0.1 that nobody has signed, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-nodes"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    command = ["openssl", "req", "-x509", *kind, *names, *files]
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is absent")
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both"
    both.write_text((folder / "key").read_text() + (folder / "certificate").read_text())
    return both
