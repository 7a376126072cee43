"""Damaged files are read right or refused in words; see `kinds`.

`tools/adversary_files.py` is the same with coverage and for hours.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trust.corpus import STARTS
from trust.kinds import KINDS, attempt, outcome
from trust.limits import bounded_memory
from trust.links import attack


@pytest.mark.parametrize("name", list(KINDS))
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_fuzz(name, data):
    content = data.draw(KINDS[name].damaged)
    with bounded_memory():
        attempt(KINDS[name], content)


@pytest.mark.parametrize("name", list(STARTS))
def test_the_search_starts_from_good_files(tmp_path, name):
    """Else it would attack nothing but the first check."""
    for number, case in enumerate(STARTS[name].seeds):
        folder = tmp_path / str(number) / "inner"
        folder.mkdir(parents=True)
        for file, data in STARTS[name].files(case).items():
            (folder / file).write_bytes(data)
        assert outcome(STARTS[name].read, folder) == "loaded"


@pytest.mark.parametrize("name", list(STARTS))
def test_mutations_of_the_search(tmp_path, name):
    start, folder = STARTS[name], tmp_path / "inner"
    folder.mkdir()
    with bounded_memory():
        for number in range(60):
            for file, data in start.files(start.mutate(start.seeds[0], number)).items():
                (folder / file).write_bytes(data)
            outcome(start.read, folder)


def test_links_pipes_and_devices(tmp_path):
    assert [(what, words) for what, words in attack(tmp_path) if words] == []
