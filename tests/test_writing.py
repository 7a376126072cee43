"""Two processes and one output: the second is refused in words, and nothing is touched."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from checkpoints import card, small_model, unwritable_folder
from other_writer import writing_elsewhere, writing_file_elsewhere

import lipzoo
from lab.pretraining import load_pretraining, pretrain
from lipzoo._writing import LOCK_FILE, one_writer, output_path, writing, writing_file
from lipzoo._yaml import read_yaml
from lipzoo.cli import main
from lipzoo.errors import OutputError
from lipzoo.training import export_run, train
from lipzoo.training.recipe import make_recipe
from lipzoo.weights import read_checkpoint, write_checkpoint

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
RECIPE = {
    "architecture": "test_tiny",
    "dataset": {"name": "iris"},
    "epochs": 2,
    "seeds": [0],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run and its checkpoint."""
    folder = tmp_path_factory.mktemp("made")
    train(make_recipe(RECIPE, "test"), folder / "run", verbose=False)
    export_run(folder / "run", folder / "checkpoint")
    (folder / "recipe.yaml").write_bytes((folder / "run" / "recipe.yaml").read_bytes())
    return folder


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# --------------------------------------------------------------------- the lock


def test_the_second_is_told_who_writes(tmp_path):
    out = tmp_path / "out"
    with writing_elsewhere(out) as process:
        before = listing(tmp_path)
        words = rf"being written by another process \({process}\)"
        with pytest.raises(OutputError, match=words), writing(out):
            pass
        assert listing(tmp_path) == before
    with writing(out):
        assert (out / LOCK_FILE).read_text() == str(os.getpid())
    assert [*out.iterdir()] == []


def test_a_file_has_one_writer_and_its_neighbours_have_theirs(tmp_path):
    with writing_file_elsewhere(tmp_path / "a.csv"):
        refused = pytest.raises(OutputError, match=r"a\.csv: is being written")
        with refused, writing_file(tmp_path / "a.csv"):
            pass
        with writing_file(tmp_path / "b.csv"):
            pass
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_folder_that_takes_no_files_is_not_busy():
    with (
        pytest.raises(OutputError, match=r"x\.csv: cannot be written"),
        writing_file("/proc/x.csv"),
    ):
        pass


def test_one_folder_by_two_names(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "out")
    refused = pytest.raises(OutputError, match="being written")
    with writing_elsewhere(tmp_path / "out"), refused, writing(tmp_path / "link"):
        pass


def test_a_thread_may_nest_it_and_another_thread_may_not(tmp_path):
    refused = []

    def other():
        try:
            with writing(tmp_path):
                pass
        except OutputError as fault:
            refused.append(str(fault))

    with writing(tmp_path), writing(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    other()
    assert len(refused) == 1


def test_a_lock_ends_with_its_process(tmp_path):
    out = tmp_path / "out"
    with writing_elsewhere(out) as process:
        os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            try:
                with writing(out):
                    break
            except OutputError:
                assert time.monotonic() < deadline
    write_checkpoint(out, small_model(), card())  # what was left does not count as files


def test_a_new_folder_that_stays_empty_is_removed_where_the_writing_fails(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path / "a" / "b"):
        raise KeyError
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyError), writing(tmp_path / "mine"):
        raise KeyError
    assert (tmp_path / "mine").is_dir()


def test_many_processes_and_one_folder(tmp_path):
    """Each takes the lock, makes and removes the folder again and again; never are there two."""
    out, children = tmp_path / "a" / "out", []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                held = 0
                while held < 40:
                    try:
                        with writing(out):
                            inside = os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL)
                            os.close(inside)
                            os.unlink(tmp_path / "inside")
                            held += 1
                            raise KeyError
                    except (KeyError, OutputError):
                        pass
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_decorator_keeps_the_signature(tmp_path):
    @one_writer
    def write(name, *, out=None):
        return None if out is None else (out / LOCK_FILE).is_file()

    assert write("a") is None
    assert write("a", out=tmp_path)
    assert "warm_start" in lipzoo.finetune.__wrapped__.__kwdefaults__


@pytest.mark.parametrize(
    "out", ["a\0b", "x" * 5000, "~nobody-of-that-name/y", "\ud800", "a/" * 5000]
)
def test_what_can_be_no_output(out, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for hold in (output_path, writing, writing_file):
        with pytest.raises(OutputError), hold(out):
            pass
    assert [*tmp_path.iterdir()] == []


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for out, words in (("file", "is a file"), ("file/in", "cannot be made")):
        with pytest.raises(OutputError, match=words), writing(tmp_path / out):
            pass
    with pytest.raises(OutputError, match="is no folder"), writing_file(tmp_path / "absent" / "x"):
        pass
    with unwritable_folder() as folder:
        for hold in (writing(folder / "out"), writing(folder), writing_file(folder / "x.csv")):
            with pytest.raises(OutputError, match=r"cannot be (written|made)"), hold:
                pass


def test_a_disk_that_fills_up_in_the_middle(tmp_path):
    words = r"out: cannot be written \(No space left on device\); make room"
    with pytest.raises(OutputError, match=words), writing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(ConnectionError), writing(tmp_path / "out"):
        raise ConnectionError(errno.ECONNRESET, "no fault of the disk")


# -------------------------------------------------------------------- every writer


def commands(made, out):
    recipe, checkpoint = str(made / "recipe.yaml"), str(made / "checkpoint")
    data = ["--data", "iris", "--out", str(out), "--overwrite"]
    return {
        "train": ["train", recipe, "--quiet", "--out", str(out), "--overwrite"],
        "resume": ["train", recipe, "--quiet", "--out", str(out), "--resume"],
        "export": ["export", str(made / "run"), "--out", str(out), "--overwrite"],
        "finetune": ["finetune", checkpoint, "--epochs", "1", "--quiet", *data],
        "certify": ["certify", checkpoint, "--iterations", "0", *data],
        "report": ["report", checkpoint, *data],
        "demo": ["demo", "--out", str(out), "--overwrite"],
        "new": ["new", "my_gat", "--out", str(out)],
    }


@pytest.mark.parametrize("name", commands(Path(), Path()))
def test_a_command_is_refused_while_another_writes(name, made, tmp_path, capsys):
    out = tmp_path / "out"
    write_checkpoint(out, small_model(), card())
    with writing_elsewhere(out) as process:
        before = listing(out)
        assert main(commands(made, out)[name]) == 2
        assert f"{out}: is being written by another process ({process})" in capsys.readouterr().err
        assert listing(out) == before
        read_checkpoint(out)  # a reader is not held up


def test_predict_is_refused_while_another_writes(made, tmp_path, capsys):
    out = tmp_path / "out.csv"
    command = ["predict", str(made / "checkpoint"), "--data", "iris", "--out", str(out)]
    with writing_file_elsewhere(out):
        assert main(command) == 2
        assert "is being written by another process" in capsys.readouterr().err
    assert main(command) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_convert_is_refused_while_another_writes(made, tmp_path, capsys):
    out = tmp_path / "out.pt2"
    with writing_file_elsewhere(out):
        command = ["convert", str(made / "checkpoint"), "--to", "pt2", "--out", str(out)]
        assert main(command) == 2
        assert "is being written by another process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_pretraining_is_refused_while_another_writes(tmp_path):
    with writing_elsewhere(tmp_path), pytest.raises(OutputError, match="being written"):
        pretrain(load_pretraining("cs_computers_digits"), tmp_path, say=lambda line: None)


# A fork would not do: it copies no threads of OpenMP's, and a model's first pass waits for them.
EXPORT = """
import pathlib, sys, time
from lipzoo.cli import main
print(flush=True)
go = pathlib.Path(sys.argv[1])
while not go.exists():
    time.sleep(0.001)
sys.exit(main(["export", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_two_commands_at_once(made, tmp_path):
    """Of four exports into one folder that start together, all that succeed leave one result."""
    out, go = tmp_path / "out", tmp_path / "go"
    command = [sys.executable, "-c", EXPORT, str(go), str(made / "run"), "--out", str(out)]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipe) for _ in range(4)]
    for child in children:
        child.stdout.readline()
    go.touch()
    words = [child.communicate(timeout=300)[1] for child in children]
    codes = [child.returncode for child in children]
    assert sorted(codes) == [0, 2, 2, 2], words
    for said, code in zip(words, codes):
        assert ("is being written by" in said or "already holds" in said) == (code == 2)
    assert read_checkpoint(out).card.full_name == read_yaml_name(made)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["card.yaml", "curve.csv", "model.safetensors"]


def read_yaml_name(made):
    return "{name}.{tag}".format(**read_yaml(made / "checkpoint" / "card.yaml"))
