"""An output folder: begun, gone on with, replaced; what is not its own stays."""

import os

import pytest

from lipzoo._atomic import write_atomically
from lipzoo._output import OutputFolder, differing, output_file
from lipzoo._writing import LOCK_FILE
from lipzoo.errors import ConfigError, OutputError

OWN = ("result.txt", "part_*/result.txt", "part_*/state.txt")
ASKED = {"name": "mine", "optimizer": {"lr": 0.1}}


def output(out):
    return OutputFolder(out, "settings.yaml", OWN)


def begin(out, resume=False, overwrite=False, **changes):
    folder = output(out)
    return folder.begin({**ASKED, **changes}, resume, overwrite)


@pytest.fixture
def used(tmp_path):
    """A folder that was begun, with results and with files of somebody else's."""
    out = tmp_path / "out"
    begin(out)
    others = ("notes.txt", "part_0/x", ".mine.tmp")
    for name in ("result.txt", "part_0/result.txt", "part_0/state.txt", *others):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(name)
    (out / ".result.txt.abc.lipzoo.tmp").write_text("half")
    return out


def everything(out):
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_is_there_is_refused_and_stays(used, tmp_path):
    before = everything(used)
    for refused in (lambda: begin(used), OutputFolder(used).prepare):
        with pytest.raises(OutputError, match=r"already holds .*--overwrite"):
            refused()
    with pytest.raises(ConfigError, match=r"\(optimizer\.lr, seed differ\).*in settings\.yaml"):
        begin(used, resume=True, optimizer={"lr": 0.2}, seed=1)
    assert everything(used) == before
    with pytest.raises(OutputError, match=r"holds files, but no rows\.csv; choose another folder"):
        OutputFolder(used, "rows.csv").keep()
    assert everything(used) == before


def test_resuming_keeps_all_but_leftovers(used):
    before = everything(used)
    assert begin(used, resume=True) == used
    del before[used / ".result.txt.abc.lipzoo.tmp"]
    assert everything(used) == before


def test_what_may_change_does_not_matter(used):
    folder = output(used)
    asked = {**ASKED, "seeds": [1]}
    with pytest.raises(ConfigError, match="seeds differ"):
        folder.begin(asked, True, False)
    folder.begin(asked, True, False, may_change=["seeds"])


def test_overwriting_removes_its_own_files_only(used):
    begin(used, overwrite=True, name="other")
    names = {str(path.relative_to(used)) for path in everything(used)}
    assert names == {"settings.yaml", "notes.txt", "part_0/x", ".mine.tmp"}
    begin(used, resume=True, name="other")


def test_the_result_goes_before_what_it_was_made_of(used, monkeypatch):
    removed = []
    unlink = type(used).unlink
    monkeypatch.setattr(
        type(used), "unlink", lambda path, **how: (removed.append(path), unlink(path, **how))[1]
    )
    begin(used, overwrite=True)
    own = [str(path.relative_to(used)) for path in removed if path.suffix == ".txt"]
    assert own == ["result.txt", "part_0/result.txt", "part_0/state.txt"]


@pytest.mark.parametrize("left", [".settings.yaml.abc.lipzoo.tmp", ".lock", None])
def test_what_a_kill_left_before_it_had_begun_is_no_obstacle(tmp_path, left):
    place = tmp_path / "out/inner"
    place.mkdir(parents=True)
    if left is not None:
        (place.parent if left == ".lock" else place).joinpath(left).write_text("")
    for resume in (False, True):
        folder = OutputFolder(tmp_path / "out", "inner/settings.yaml")
        folder.begin(ASKED, resume, overwrite=False)
        assert os.listdir(place) == ["settings.yaml"]


def test_what_cannot_be_removed_is_said(used, monkeypatch):
    def unlink(path, **how):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(used), "unlink", unlink)
    with pytest.raises(OutputError, match=r"out: cannot be written \(Permission denied\)"):
        begin(used, overwrite=True)


def test_names_of_what_differs():
    before = {"same": 1, "args": {"norm": None, "drop": 0.1, "deep": {"x": 1}}, "gone": 1}
    now = {"same": 1, "args": {"drop": 0.2, "deep": {"x": [1]}}, "new": {"x": 1}}
    assert differing(before, now) == ["args.deep.x", "args.drop", "args.norm", "gone", "new"]
    assert differing(before, before) == []
    assert differing({"norm": None}, {}) == ["norm"], "a norm that is none is not the default"


def test_what_a_kill_left_in_folders_of_the_folder_is_nothing(tmp_path):
    out = tmp_path / "out"
    inner = out / "finetuned.iris" / "training"
    inner.mkdir(parents=True)
    (inner / ".settings.yaml.abc.lipzoo.tmp").write_text("a")
    (out / "finetuned.iris" / LOCK_FILE).write_text("")
    assert OutputFolder(out).prepare() == out
    (inner / ".hidden").write_text("a user's")
    with pytest.raises(OutputError, match="already holds files"):
        OutputFolder(out).prepare()
    (inner / ".hidden").unlink()
    (inner / "away").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="already holds files"):
        OutputFolder(out).prepare()


@pytest.mark.parametrize("text", ["# mine\nname: mine\n", "name: 'mine'\n", "name: [", ""])
def test_a_file_that_was_written_by_hand_is_not_replaced(tmp_path, text):
    """A recipe in the folder that --out names, say."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"settings\.yaml: .*nothing was begun here"):
            begin(tmp_path, overwrite=overwrite)
        assert file.read_text() == text
    (tmp_path / "result.txt").write_text("by an older version, say")
    begin(tmp_path, overwrite=True)
    assert file.read_text() != text


def test_what_was_begun_and_left_at_once_is_replaced(tmp_path):
    begin(tmp_path)
    begin(tmp_path, overwrite=True, seed=1)
    assert "seed: 1" in (tmp_path / "settings.yaml").read_text()


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    there, link = tmp_path / "far/there.csv", tmp_path / "link.csv"
    there.write_text("old")
    link.symlink_to(there)
    with pytest.raises(OutputError, match=r"there\.csv: exists"), output_file(link, False):
        pass
    with output_file(link, overwrite=True) as target:
        write_atomically(target, b"new")
    assert there.read_text() == "new"
    assert link.is_symlink()
    there.unlink()
    with output_file(link, overwrite=False) as target:
        write_atomically(target, b"newer")
    assert there.read_text() == "newer"
