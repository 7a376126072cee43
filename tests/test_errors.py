"""The exceptions and their words."""

import pytest

import lipzoo
from lipzoo import errors
from lipzoo.errors import LipzooError, did_you_mean

KINDS = [name for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("name", KINDS)
def test_every_exception_is_a_lipzoo_error_and_public(name):
    assert issubclass(getattr(errors, name), LipzooError)
    assert getattr(lipzoo, name) is getattr(errors, name)
    assert getattr(errors, name).__doc__


def test_exceptions_are_also_what_python_would_raise():
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.UnknownNameError, LookupError)


@pytest.mark.parametrize(
    ("name", "choices", "wanted"),
    [
        ("cra", ["cora", "citeseer"], "; did you mean 'cora'? (choices: citeseer, cora)"),
        ("xyz", ["cora"], "; (choices: cora)"),
        ("xyz", [], "; (choices: none)"),
        (None, ["cora"], "; (choices: cora)"),
        (3, ["4"], "; (choices: 4)"),
    ],
)
def test_did_you_mean(name, choices, wanted):
    assert did_you_mean(name, choices) == wanted
