"""Damaged files are read right or refused in words; see `kinds` and `tools/fuzz.py`."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trust.kinds import KINDS, attempt
from trust.limits import bounded_memory


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
