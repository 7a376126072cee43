"""Whoever wants weights has them found, fetched, read and hashed once."""

import hashlib
import os
import sys
import threading

import pytest
from checkpoints import edit_card

import lipzoo
from lipzoo.cli import main
from lipzoo.errors import CheckpointError
from lipzoo.hub import fetch
from lipzoo.weights import CARD_FILE, WEIGHTS_FILE

pytestmark = pytest.mark.usefixtures("home")

#: Names of the files that are opened, while somebody counts them.
_opened = None


def _note(event, args):
    if event != "open" or _opened is None or not isinstance(args[0], (str, os.PathLike)):
        return
    if args[2] & (os.O_WRONLY | os.O_RDWR) == 0:  # to be read
        _opened.append(os.path.basename(args[0]))


sys.addaudithook(_note)


@pytest.fixture
def count(checkpoint, monkeypatch):
    """``count(work)`` says how often ``work()`` opened the card, the weights, and hashed those."""
    wanted = hashlib.sha256((checkpoint / WEIGHTS_FILE).read_bytes()).hexdigest()
    real, hashes = hashlib.sha256, []

    class Counted:
        def __init__(self, data=b"", **options):
            self.inner = real(data, **options)
            self.update, self.digest = self.inner.update, self.inner.digest

        def hexdigest(self):
            found = self.inner.hexdigest()
            if threading.current_thread() is threading.main_thread():  # not the server's
                hashes.append(found)
            return found

    def count(work):
        global _opened
        hashes.clear()
        _opened = []
        try:
            with monkeypatch.context() as patch:
                patch.setattr(hashlib, "sha256", Counted)
                work()
            names, _opened = _opened, None
        finally:
            _opened = None
        weights = (WEIGHTS_FILE, f"{WEIGHTS_FILE}.part")
        return (
            names.count(CARD_FILE),
            sum(name in weights for name in names),
            hashes.count(wanted),
        )

    return count


def finetuned(address):
    iris = lipzoo.load_dataset("iris")
    lipzoo.finetune(address, iris, epochs=1, verbose=False)


def command(*words):
    def run(address):
        assert main([words[0], address, *words[1:]]) == 0

    return run


WORK = {
    "load_pretrained": lipzoo.load_pretrained,
    "create_model": lambda address: lipzoo.create_model(address, pretrained=True),
    "finetune": finetuned,
    "info": command("info"),
    "certify": command("certify", "--data", "iris", "--no-radii", "--iterations", "0"),
}


@pytest.mark.parametrize("work", WORK)
def test_a_folder_and_a_name(count, checkpoint, monkeypatch, work):
    monkeypatch.setenv("LIPZOO_PRETRAINED_PATH", str(checkpoint.parent))
    for source in (f"{checkpoint}", checkpoint.as_uri(), "gat_lip_2.test"):
        assert count(lambda source=source: WORK[work](source)) == (1, 1, 1)


@pytest.mark.parametrize("work", WORK)
def test_a_url(count, server, work):
    _, read, hashed = count(lambda: WORK[work](server.address))
    assert (read, hashed) == (1, 1), "fetched"
    _, read, hashed = count(lambda: WORK[work](server.address))
    assert (read, hashed) == (1, 1), "kept"
    assert server.log.count_of("GET", "card.yaml", 200) == 1
    assert server.log.count_of("GET", "card.yaml", 304) == 1
    assert server.log.count_of("GET", "model.safetensors", 200) == 1


def test_what_was_fetched_before(count, server, monkeypatch):
    fetch(server.address)
    monkeypatch.setenv("LIPZOO_OFFLINE", "1")
    _, read, hashed = count(lambda: lipzoo.load_pretrained(server.address))
    assert (read, hashed) == (1, 1)


def test_what_finetune_wrote_is_not_read_back(count, checkpoint, tmp_path):
    iris = lipzoo.load_dataset("iris")
    made = []

    def work():
        made.append(lipzoo.finetune(checkpoint, iris, epochs=1, out=tmp_path / "x", verbose=False))

    assert count(work)[1:] == (1, 1)
    again = lipzoo.load_pretrained(tmp_path / "x")
    assert made[0].model.card == again.card
    assert made[0].model.pretrained_folder == again.pretrained_folder


def test_the_pin_is_of_the_card_that_is_read(checkpoint, monkeypatch):
    """Replaced between two looks, the weights would not be those that the hash asks for."""
    pin = hashlib.sha256((checkpoint / WEIGHTS_FILE).read_bytes()).hexdigest()
    address = f"{checkpoint.as_uri()}#sha256={pin}"
    lipzoo.load_pretrained(address)
    real = lipzoo.card.Card.from_dict.__func__
    other = {}

    def and_replace(kind, content, where):
        found = real(kind, content, where)
        if not other:
            other["data"] = data = (checkpoint / WEIGHTS_FILE).read_bytes()[:-1] + b"!"
            (checkpoint / WEIGHTS_FILE).write_bytes(data)
            right = {"sha256": hashlib.sha256(data).hexdigest()}
            edit_card(checkpoint, lambda content: content["weights"].update(right))
        return found

    monkeypatch.setattr(lipzoo.card.Card, "from_dict", classmethod(and_replace))
    with pytest.raises(CheckpointError, match="asks for: they were replaced"):
        lipzoo.load_pretrained(address)
    assert other
