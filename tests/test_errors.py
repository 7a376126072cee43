"""The exceptions and their words."""

import pytest

import lipzoo
from lipzoo import errors
from lipzoo.errors import LipzooError, did_you_mean, first_line, shown

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


def test_of_many_choices_the_nearest_are_named():
    many = [f"gat_{n}" for n in range(1, 90)]
    words = did_you_mean("gat_42x", many)
    assert words.startswith("; did you mean 'gat_42'? (choices: gat_42, gat_")
    assert words.endswith(" and 79 more)")
    assert words.count(",") == 9
    words = did_you_mean("zzz", many, all_of="`lipzoo list` shows all")
    assert words.endswith(" and 79 more: `lipzoo list` shows all)")
    assert len(words) < 200
    assert did_you_mean("zzz", many[:10]).count("gat_") == 10


@pytest.mark.parametrize(
    ("words", "length", "wanted"),
    [
        ("it's C:\\data", 80, "it's C:\\data"),
        ("two\nlines", 80, r"two\nlines"),
        ("\x1b[31m", 80, r"\x1b[31m"),
        ("half \udcff", 80, r"half \udcff"),
        (["a"], 80, "['a']"),
        ("0123456789", 10, "0123456789"),
        ("0123456789x", 10, "01234…789x"),
        ("0123456789x", 9, "0123…789x"),
    ],
)
def test_words_of_others_are_one_short_line(words, length, wanted):
    assert shown(words, length) == wanted
    assert len(shown(str(words) * 1000)) == 80


def test_errors_of_others_are_their_first_line():
    assert first_line(ValueError("\n no such thing.\nand more")) == "no such thing"
    assert first_line(EOFError()) == "EOFError"


def test_what_a_name_begins_with_is_nearest():
    choices = ["feat", "feature_names", "fe", "label"]
    assert did_you_mean("features", choices).startswith("; did you mean 'feat'?")
    assert did_you_mean("feature_name", choices[1:]).startswith("; did you mean 'feature_names'?")
    assert did_you_mean("gat_lip_16x", ["gat", "gat_lip_16", "gat_lip"]).count("'gat_lip_16'") == 1
