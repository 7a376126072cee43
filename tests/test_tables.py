import csv
import io

import pytest

from lipzoo._tables import markdown_table, read_csv, to_csv
from lipzoo.errors import ConfigError

ROWS = [{"name": 'a, "b"\nc', "value": "1"}, {"name": "é", "value": "2.5"}]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_rows_come_back_as_they_were(tmp_path, line_end):
    data = to_csv(ROWS, line_end=line_end)
    assert list(csv.DictReader(io.StringIO(data.decode(), newline=""))) == ROWS
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    assert read_csv(path) == read_csv(path, ("name", "value")) == ROWS
    with pytest.raises(ConfigError, match=r"rows\.csv: has other columns .*\(value, name\)"):
        read_csv(path, ("value", "name"))


def test_the_header_is_that_which_was_asked_for():
    assert to_csv(ROWS[1:], ["value", "name"]) == "value,name\n2.5,é\n".encode()
    assert to_csv([], ["value"]) == b"value\n"
    assert to_csv([]) == b""
    with pytest.raises(ValueError, match="'name'"):
        to_csv(ROWS, ["value"])


def test_figures_stand_to_the_right():
    assert markdown_table(["a", "b"], [["x", "1"]]) == ["| a | b |", "|---|---|", "| x | 1 |"]
    assert markdown_table(["a", "b"], [], figures=True) == ["| a | b |", "| --- | --: |"]
