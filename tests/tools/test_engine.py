"""The engine alone, on points that take no time."""

import multiprocessing
import os
from functools import partial
from operator import methodcaller
from types import SimpleNamespace

import pytest

from lab.engine import Kind, Rows, open_study, run_study
from lipzoo.errors import LipzooError, OutputError

KIND = Kind("study", "study.yaml", "rows.csv", ("name", "hash", "value"), ("name", "hash"))


def point(name, work, settings="a"):
    return SimpleNamespace(key=(name, settings), work=work)


def gives(name, value, settings="a"):
    rows = [{"name": name, "hash": settings, "value": value}]
    return point(name, partial(list, rows), settings)


def fails(name):
    return point(name, partial(int, "no number"))


def run(points, out, jobs=1, say=lambda line: None):
    def follow(table, work, jobs):
        return lambda point, rows: f"value {rows[0]['value']}"

    work = methodcaller("work")
    return run_study(KIND, {"a": 1}, points, out, work, follow, jobs=jobs, say=say)


def test_what_is_done_is_not_done_again_and_other_settings_are_other_points(tmp_path):
    out, said = tmp_path / "out", []
    run([gives("one", 1), gives("two", 2)], out, say=said.append)
    assert said[0] == "2 of 2 runs to do"
    assert said[2].endswith(": value 2")
    before = (out / "rows.csv").read_bytes()
    # Points that would fail if they were measured.
    table = run([fails("one"), fails("two"), gives("one", 5, "b")], out, say=said.append)
    assert said[3] == "1 of 3 runs to do"
    assert [row["value"] for row in table.rows] == ["1", "2", "5"]
    assert (out / "rows.csv").read_bytes().startswith(before)
    assert Rows(out, KIND).rows == table.rows
    assert open_study(KIND, out) == {"a": 1}


def test_a_point_that_fails_costs_only_itself(tmp_path):
    points = [fails("one"), gives("two", 2)]
    with pytest.raises(LipzooError, match=r"1 of 2 runs failed.*no number"):
        run(points, tmp_path / "out")
    assert [row["name"] for row in Rows(tmp_path / "out", KIND).rows] == ["two"]


def test_a_stop_between_two_points_keeps_the_first(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([gives("one", 1), point("two", stop), gives("three", 3)], tmp_path / "out")
    assert [row["name"] for row in Rows(tmp_path / "out", KIND).rows] == ["one"]


@pytest.mark.slow
def test_a_worker_that_dies_is_said_and_none_stays(tmp_path):
    before = set(multiprocessing.active_children())
    with pytest.raises(LipzooError, match=r"a worker process was killed.*fewer --jobs"):
        run([point("one", partial(os._exit, 1))], tmp_path / "out", jobs=2)
    assert set(multiprocessing.active_children()) <= before
    table = run([gives("one", 1)], tmp_path / "out", jobs=2)
    assert len(table.rows) == 1


def test_folders_that_cannot_be_used_stay_as_they_are(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files, but no study"):
        run([gives("one", 1)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(OutputError, match="holds no study"):
        open_study(KIND, tmp_path)
