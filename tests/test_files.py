"""Only regular files are read, none outside the folder of somebody else, and none too long."""

import os
import socket

import pytest

from lipzoo._files import Refused, check_folder, open_regular, read_regular


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"hidden")
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "file").write_bytes(b"content")
    (folder / "below" / "file").write_bytes(b"deeper")
    return folder


def test_a_file_is_read(folder):
    assert read_regular(folder / "file") == b"content"
    assert read_regular(folder / "file", 7, folder) == b"content"
    assert read_regular(folder / "below" / "file", 7, folder) == b"deeper"


def test_links_within_a_folder_are_followed(folder):
    (folder / "link").symlink_to("below/file")
    (folder / "below" / "up").symlink_to("../file")
    (folder / "deep").symlink_to("below")
    assert read_regular(folder / "link", 7, folder) == b"deeper"
    assert read_regular(folder / "below" / "up", 7, folder) == b"content"
    assert read_regular(folder / "deep" / "file", 7, folder) == b"deeper"


def test_what_a_user_names_may_be_a_link(folder, tmp_path):
    (tmp_path / "mine").symlink_to(folder)
    (tmp_path / "file").symlink_to(folder / "file")
    assert read_regular(tmp_path / "mine" / "file", 7, tmp_path / "mine") == b"content"
    assert read_regular(tmp_path / "file") == b"content"


@pytest.mark.parametrize("how", ["link", "link to a link", "folder", "dots", "itself"])
def test_nothing_leads_out_of_a_folder(folder, how):
    path = folder / "way"
    if how == "link":
        path.symlink_to(folder.parent / "outside" / "secret")
    elif how == "link to a link":
        (folder / "other").symlink_to("../outside/secret")
        path.symlink_to("other")
    elif how == "folder":
        (folder / "out").symlink_to("../outside")
        path = folder / "out" / "secret"
    elif how == "dots":
        path = folder / ".." / "outside" / "secret"
    else:
        path.symlink_to("..")
    with pytest.raises(Refused, match="leads out of its folder") as caught:
        open_regular(path, folder)
    assert "hidden" not in str(caught.value)


def test_a_prefix_of_the_name_is_another_folder(folder):
    (folder.parent / "folder2").mkdir()
    (folder.parent / "folder2" / "secret").write_bytes(b"")
    (folder / "way").symlink_to("../folder2/secret")
    with pytest.raises(Refused, match="leads out"):
        open_regular(folder / "way", folder)


def special(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_only_regular_files(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    special(tmp_path / "x" if kind != "socket" else type(tmp_path)("x"), kind)
    for folder in (None, tmp_path):
        # A socket cannot be opened at all.
        words = "No such device or address" if kind == "socket" else "no regular file|leads out"
        with pytest.raises(OSError, match=words):
            open_regular(tmp_path / "x", folder)


def test_the_limit(tmp_path):
    (tmp_path / "x").write_bytes(b"12345678")
    assert len(read_regular(tmp_path / "x", 8)) == 8
    with pytest.raises(Refused, match="larger than 7 bytes"):
        read_regular(tmp_path / "x", 7)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(Refused, match="larger than"):
        read_regular(tmp_path / "sparse")
    with pytest.raises(Refused, match="longer than the system says"):
        read_regular("/proc/self/status", 2**20)


def test_the_cache_of_the_hub(tmp_path):
    """``snapshots/<commit>/name -> ../../blobs/<hash>``, and nowhere else."""
    folder = tmp_path / "models--x" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    blobs = tmp_path / "models--x" / "blobs"
    blobs.mkdir()
    (blobs / "12").write_bytes(b"content")
    (folder / "card.yaml").symlink_to("../../blobs/12")
    assert read_regular(folder / "card.yaml", 7, folder) == b"content"
    (tmp_path / "secret").write_bytes(b"hidden")
    (blobs / "13").symlink_to("../../secret")
    (folder / "other").symlink_to("../../blobs/13")
    with pytest.raises(Refused, match="leads out"):
        read_regular(folder / "other", 7, folder)
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="leads out"):
        read_regular(folder / "card.yaml", 7, folder)


def test_a_whole_folder(folder):
    check_folder(folder)
    (folder / "below" / "link").symlink_to("../file")
    check_folder(folder)
    (folder / "below" / "pipe").symlink_to("../pipe")
    os.mkfifo(folder / "pipe")
    with pytest.raises(Refused, match="no regular file"):
        check_folder(folder)
    (folder / "pipe").unlink()
    (folder / "below" / "pipe").unlink()
    (folder / "out").symlink_to("../outside")
    with pytest.raises(Refused, match="leads out"):
        check_folder(folder)
