"""Public files behind URLs: fetched once, resumed, checked by their hash, kept."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from filelock import FileLock
from loopback import file_server, quick_downloads
from public_files import heterophilous_arrays, save

from lipzoo._fetch import download
from lipzoo.datasets import fixed_split, heterophilous, load_dataset
from lipzoo.datasets.embedded import iris
from lipzoo.errors import DataError, OutputError

PATH = "/data/minesweeper.npz"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Beside `quick_downloads`, no raw files and no proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DGL_DOWNLOAD_DIR", str(tmp_path / "raw"))
    return quick_downloads(monkeypatch, tmp_path / "home")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of a small Minesweeper, which the catalogue names."""
    data = save(tmp_path / "made" / "x.npz", heterophilous_arrays()).read_bytes()
    with file_server() as server:
        server.files[PATH] = data
        known = heterophilous.FILES["minesweeper"]
        digest = hashlib.sha256(data).hexdigest()
        url = f"{server.url}{PATH}"
        entry = replace(known, url=url, sha256=digest, num_bytes=len(data))
        monkeypatch.setitem(heterophilous.FILES, "minesweeper", entry)
        yield server


def fetched(server):
    return server.log.count_of("GET", "minesweeper.npz", 200)


def kept(home):
    return [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]


def test_fetched_once_and_kept_under_its_hash(server, home, monkeypatch):
    task = load_dataset("minesweeper", split_index=2)
    arrays = heterophilous_arrays()
    assert np.array_equal(task.feat.numpy(), arrays["node_features"])
    assert np.array_equal(task.test_mask.numpy(), arrays["test_masks"][2])
    load_dataset("minesweeper")
    assert fetched(server) == 1
    [path] = kept(home)
    digest = hashlib.sha256(server.files[PATH]).hexdigest()
    assert path == home / "data" / f"minesweeper-{digest[:16]}" / "minesweeper.npz"
    # Without a network what was fetched is taken.
    monkeypatch.setenv("LIPZOO_OFFLINE", "1")
    server.log.clear()
    assert load_dataset("minesweeper", split_index=2).fingerprint == task.fingerprint
    assert not server.log


def test_raw_files_go_before(server, tmp_path):
    other = heterophilous_arrays(node_features=np.ones((40, 1), np.float32))
    save(tmp_path / "raw" / "heterophilous" / "minesweeper.npz", other)
    assert load_dataset("minesweeper").in_feats == 1
    assert not server.log


def test_what_breaks_off_is_gone_on_with(server, home):
    size = len(server.files[PATH])
    server.cuts[PATH] = [size // 2, 0, 0, 0]
    with pytest.raises(DataError, match="the next call goes on where this one stopped"):
        load_dataset("minesweeper")
    [part] = kept(home)
    have = part.stat().st_size
    assert part.name == "minesweeper.npz.part"
    assert 0 < have < size
    server.log.clear()
    load_dataset("minesweeper")
    assert [status for _, _, status in server.log] == [206], "the rest of it"
    assert [path.name for path in kept(home)] == ["minesweeper.npz"]


def test_a_part_of_another_file_is_fetched_anew(server, home):
    server.cuts[PATH] = [len(server.files[PATH]) // 2, 0, 0, 0]
    with pytest.raises(DataError):
        load_dataset("minesweeper")
    [part] = kept(home)
    part.write_bytes(b"x" * part.stat().st_size)
    load_dataset("minesweeper")
    assert fetched(server) > 1


def test_a_file_of_another_hash_is_refused_and_not_kept(server, home):
    data = server.files[PATH]
    server.files[PATH] = data[:-1] + bytes([data[-1] ^ 1])
    for _ in range(2):
        words = r"hash is not the one lipzoo's catalogue says .*try again.*or put the file there"
        with pytest.raises(DataError, match=words):
            load_dataset("minesweeper")
    assert not kept(home)


def test_a_file_of_another_length_is_refused_before_its_body(server, home):
    server.files[PATH] += b"x"
    with pytest.raises(DataError, match="they do not belong together"):
        load_dataset("minesweeper")
    assert not kept(home)


def test_an_endless_body_ends(server, home, monkeypatch):
    monkeypatch.setattr(download, "_BLOCK", 2**14)
    server.endless.add(PATH)
    with pytest.raises(DataError, match="bytes came that lipzoo's catalogue says"):
        load_dataset("minesweeper")
    assert server.sent < 2**24
    assert not kept(home)


def test_a_cache_that_was_damaged_heals_where_there_is_a_network(server, home, monkeypatch):
    load_dataset("minesweeper")
    [path] = kept(home)
    path.write_bytes(b"short")
    monkeypatch.setenv("LIPZOO_OFFLINE", "1")
    with pytest.raises(DataError, match="the network is forbidden"):
        load_dataset("minesweeper")
    monkeypatch.delenv("LIPZOO_OFFLINE")
    load_dataset("minesweeper")
    assert fetched(server) == 2
    assert path.read_bytes() == server.files[PATH]


@pytest.mark.parametrize("variable", ["LIPZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_where_to_put_it(server, home, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(DataError) as caught:
        load_dataset("minesweeper")
    place = tmp_path / "raw" / "heterophilous" / "minesweeper.npz"
    words = str(caught.value)
    assert words.startswith(f"minesweeper: there is neither {place} nor ")
    assert server.url in words
    assert words.endswith("or put the file there, or let raw_dir name the folder that holds it")
    assert words.count("put the file there") == 1
    assert "\n" not in words
    assert not server.log
    assert not home.exists()


@pytest.mark.parametrize(("status", "words"), [(404, "HTTP 404"), (503, "HTTP 503"), (403, "403")])
def test_a_server_that_has_it_not(server, home, status, words):
    server.statuses[PATH] = status
    with pytest.raises(DataError, match=rf"minesweeper: there is neither .*{words}.*put the file"):
        load_dataset("minesweeper")
    assert not kept(home)


def test_no_server(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"Connection refused.*check the address and the network"):
        load_dataset("minesweeper")


def test_who_waits_for_another_does_not_wait_for_ever(server, home, monkeypatch):
    digest = heterophilous.FILES["minesweeper"].sha256
    place = home / "data" / f"minesweeper-{digest[:16]}"
    place.mkdir(parents=True)
    monkeypatch.setenv("LIPZOO_DOWNLOAD_SECONDS", "0.3")
    words = r"another process has been fetching it for 0\.3 s"
    with FileLock(place / ".lock"), pytest.raises(DataError, match=words):
        load_dataset("minesweeper")


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIPZOO_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="let LIPZOO_HOME name a folder"):
        load_dataset("minesweeper")


def test_a_fixed_split_is_fetched_too(home, tmp_path, monkeypatch):
    nodes = np.arange(150)
    arrays = {"train": nodes[:90], "valid": nodes[90:120], "test": nodes[120:]}
    data = save(tmp_path / "made" / "x.npz", arrays).read_bytes()
    with file_server() as server:
        server.files["/s/amazon-photo_split.npz"] = data
        entry = replace(
            fixed_split.FILES["amazon-photo"],
            url=f"{server.url}/s/amazon-photo_split.npz",
            sha256=hashlib.sha256(data).hexdigest(),
            num_bytes=len(data),
        )
        monkeypatch.setitem(fixed_split.FILES, "amazon-photo", entry)
        masks = fixed_split.fixed_split("amazon-photo")(raw_dir=None, num_nodes=iris().num_nodes)
    assert [int(mask.sum()) for mask in masks.values()] == [90, 30, 30]
    assert len(kept(home)) == 1


ENTRIES = {**heterophilous.FILES, **fixed_split.FILES}


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_every_address_names_a_commit_and_a_hash(name):
    entry = ENTRIES[name]
    assert download.check_url(entry.url).scheme == "https"
    assert entry.url.rpartition("/")[2] == entry.place.rpartition("/")[2]
    assert any(len(part) == 40 for part in entry.url.split("/")), "a commit, not a branch"
    assert len(entry.sha256) == 64
    assert int(entry.sha256, 16)
    assert entry.num_bytes > 0


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_the_hashes_are_those_of_the_files(raw_dir, name):
    entry = ENTRIES[name]
    path = raw_dir / entry.place
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    data = path.read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (entry.sha256, entry.num_bytes)
