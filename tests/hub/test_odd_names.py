"""Odd names of weights: whatever they are, the answer is one of lipzoo's errors, in one line."""

import random

import pytest

import lipzoo
from lipzoo.errors import LipzooError
from lipzoo.hub import fetch, is_remote
from lipzoo.hub.push import push_to_hub

pytestmark = pytest.mark.usefixtures("home")

PREFIXES = (
    "hf-hub:",
    "https://127.0.0.1:9/",
    "http://127.0.0.1:9/",
    "file:///",
    "file://",
    "ftp://",
)
PIECES = (
    *("\0", "\ud800", "ü", "\u202e", "..", "/../", "%00", "%2f..%2f", "%zz", "@", ":", "#", "?"),
    *(
        "#sha256=" + "0" * 64,
        "#sha256=",
        "~nobody-of-that-name/y",
        "user/name",
        "a" * 5000,
        "[",
        "]",
    ),
    *("\n", "\t", " ", "\\", "//", "user:pass@", "-", "a/b/c", "@" + "r" * 5000, "x" * 300 + "/y"),
)


def odd_names(number, seed):
    rng = random.Random(seed)
    for prefix in PREFIXES:
        yield from (prefix + piece for piece in PIECES)
    for _ in range(number):
        pieces = rng.choices(PIECES, k=rng.randint(1, 4))
        yield rng.choice(PREFIXES) + "".join(pieces)


@pytest.fixture
def no_network(monkeypatch):
    """Names are all that is looked at: nothing is fetched."""
    monkeypatch.setenv("LIPZOO_OFFLINE", "1")


def test_every_odd_name_is_refused_in_words(no_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = list(odd_names(600, seed=0))
    for name in names:
        assert is_remote(name)
        with pytest.raises(LipzooError) as caught:  # a file:// URL may name a folder that is there
            lipzoo.load_pretrained(name)
        assert len(str(caught.value)) < 12_000
    assert [path for path in tmp_path.iterdir() if path.name != "home"] == []


def test_odd_addresses_with_a_network(monkeypatch):
    """They reach nobody: port 9 of this machine is closed."""
    for name in odd_names(40, seed=1):
        if name.startswith("http"):
            with pytest.raises(LipzooError):
                fetch(name)


def test_odd_repositories_are_not_pushed_to(checkpoint):
    for piece in PIECES:
        if piece != "user/name":
            with pytest.raises(LipzooError):
                push_to_hub(checkpoint, f"{piece}\n/x")


@pytest.mark.parametrize("place", ["~nobody-of-that-name/y", "x" * 5000, "/dev/null/x"])
def test_a_cache_that_can_be_none(place, monkeypatch):
    monkeypatch.setenv("LIPZOO_HOME", place)
    with pytest.raises(LipzooError):
        fetch("https://127.0.0.1:9/x")
