"""The gallery's pages say what the cards say, and what they show to type runs."""

import importlib.util
import re
from pathlib import Path

import pytest

import lipzoo
from lipzoo.card import Card
from lipzoo.info import decisive, percent
from lipzoo.registry import find_checkpoint
from lipzoo.weights import Curve, read_curve

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
    assert seen == {"evaluate", "export", "finetune", "predict", "train"}


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


@pytest.mark.parametrize("name", NAMES)
def test_a_page_draws_the_training_or_says_how_to_record_it(gallery, tmp_path, name):
    checkpoint = find_checkpoint(name)
    card, curve = checkpoint.card, read_curve(checkpoint.folder)
    without = gallery.weights_page(card)
    assert "None was kept" in without
    again = "checkpoint/curve.csv" if card.pretrained_on else f"--seeds {card.weights.seed}"
    assert again in without
    page = gallery.weights_page(card, curve)
    assert "## Training curve" in page
    assert curve.words(card) in page
    gallery.draw_curve(card, curve, tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    # Where nothing was validated on, there are losses alone.
    is_validated = card.reads_context or not card.pretrained_on
    kinds = ("loss", "metric") if is_validated else ("loss",)
    assert drawn == {f"{name}.{kind}.svg" for kind in kinds}
    assert drawn == set(re.findall(rf"\]\(({re.escape(name)}\.(?:loss|metric)\.svg)\)", page))


def test_a_curve_of_other_weights_is_called_a_replay(gallery, tmp_path):
    """And what diverged is not drawn."""
    card = find_checkpoint("gat_lip_16.digits").card
    rows = [
        {"epoch": float(n), "train_loss": 1 / n, "val_loss": float("nan"), "val_accuracy": 0.25 * n}
        for n in (1, 2, 3)
    ]
    page = gallery.weights_page(card, Curve("0" * 64, 2, rows))
    theirs = card.weights.metrics["val_accuracy"]
    assert "in a replay of the recipe with seed 1, whose weights are not identical to these" in page
    assert f"of 0.5000; these are of epoch 69, with {theirs:.4f}" in page
    assert f"(difference {0.5 - theirs:+.4f})" in page
    assert "![training loss over the epochs]" in page
    gallery.draw_curve(card, Curve("0" * 64, 2, rows), tmp_path)
    own = gallery.weights_page(card, Curve(card.weights.sha256, 69, rows))
    assert (
        "Recorded while these weights (seed 1) were trained. The weights of epoch 69 were kept."
        in own
    )
