"""The gallery's pages say what the cards say, and what they show to type runs."""

import importlib.util
import re
from pathlib import Path

import pytest

import lipzoo
from lipzoo.card import Card
from lipzoo.info import decisive, percent
from lipzoo.registry import find_checkpoint

ROOT = Path(__file__).parents[2]
NAMES = lipzoo.list_models(pretrained=True)


@pytest.fixture(scope="module")
def gallery():
    """The module, which the site's build imports from its own folder."""
    path = ROOT / "docs/_extensions/gallery.py"
    spec = importlib.util.spec_from_file_location("gallery", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_a_page_holds_what_the_card_says(gallery, name):
    card = find_checkpoint(name).card
    page = gallery.weights_page(card)
    assert page.startswith(f"# {name}\n")
    for words in (card.description, card.licence, card.source, card.weights.sha256):
        assert words in page
    assert f"{card.weights.num_parameters:,}" in page
    if metric := decisive(card):
        for figures in (card.metrics, *card.baselines.values()):
            assert percent(figures[f"test_{metric}"]) in page
    if card.lipschitz and card.lipschitz.bound:
        assert f"{card.lipschitz.bound:.3g}" in page
    if card.lipschitz and card.lipschitz.reason:
        assert card.lipschitz.reason in page


@pytest.mark.parametrize("name", NAMES)
def test_what_a_page_shows_in_python_runs(gallery, name):
    [code] = re.findall(
        r"```python\n(.*?)```", gallery.weights_page(find_checkpoint(name).card), re.DOTALL
    )
    scope: dict = {}
    exec(compile(code, name, "exec"), scope)
    assert scope["model"].card.full_name == name


def test_what_the_pages_show_in_a_shell_is_understood(gallery):
    """Each command of each page, up to where it would begin: the parser of its arguments."""
    from lipzoo.cli import make_parser

    seen = set()
    for name in NAMES:
        page = gallery.weights_page(find_checkpoint(name).card)
        for line in re.findall(r"^lipzoo .*$", page, re.MULTILINE):
            words = line.split()[1:]
            make_parser().parse_args(words)
            seen.add(words[0])
    assert seen == {"evaluate", "finetune", "predict", "train"}


def test_odd_cards_have_a_page(gallery, tmp_path):
    """No figures, one seed, no bound, no recipe; what a page shows is the card's, as text."""
    card = find_checkpoint("gat_lip_16.digits").card
    bare = Card(
        name="mine",
        tag="x",
        architecture=card.architecture,
        dataset=card.dataset,
        description="<b>| `bold` |</b>",
    )
    page = gallery.weights_page(bare)
    assert "The card has none" in page
    one = {"test_accuracy": {"mean": 0.5, "std": float("nan"), "values": [0.5]}}
    single = Card.from_dict({**bare.model_dump(), "metrics": one, "seeds": [0]}, "here")
    assert "| these weights | - | 50.0 |" in gallery.weights_page(single)
    gallery.draw_seeds(single, tmp_path / "seeds.svg")
    assert "<svg" in (tmp_path / "seeds.svg").read_text(encoding="utf-8")
