"""The pages of ``lipzoo report`` and ``lipzoo certify`` as a person meets them."""

import pytest

from lipzoo.cli import main

pytestmark = pytest.mark.slow
PAGES = ("run", "weights", "several labels", "certificate")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """By name, a page of each kind."""
    pytest.importorskip("matplotlib"), pytest.importorskip("networkx")
    folder = tmp_path_factory.mktemp("reports")
    train = "train --architecture test_tiny --data iris --epochs 5 --seeds 0..2 --quiet --out"
    commands = {
        "trained": f"{train} {folder}/trained",
        "run": f"report {folder}/trained --radii yes --json --out {folder}/run",
        "weights": f"report gat_lip_16.digits --radii no --sample 99 --json --out {folder}/weights",
        "certificate": f"certify {folder}/exported --json --out {folder}/certificate",
    }
    for name, command in commands.items():
        if name == "certificate":
            assert main(["export", f"{folder}/trained", "--out", f"{folder}/exported"]) == 0
        assert main(command.split()) == 0
    several_labels(folder / "several labels")
    return {name: folder / name / "report.html" for name in PAGES}


def several_labels(out):
    """A report on which most cannot be drawn."""
    import torch

    import lipzoo
    from lipzoo.report import make_report

    torch.manual_seed(0)
    held = {"feat": torch.randn(40, 5), "label": (torch.rand(40, 3) > 0.5).float()}
    held |= {f"{name}_mask": torch.arange(40) % 3 == i for i, name in enumerate(("train", "test"))}
    task = lipzoo.GraphTask.from_edges(torch.randint(0, 40, (2, 120)).numpy(), held, "<several>")
    model = lipzoo.create_model("gat_lip_2", in_feats=5, num_classes=3).eval()
    make_report(model, task, embedding="pca").write(out)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_it_opens_without_a_fault_and_hinders_nobody(
    open_file, serious_faults, reports, name, scheme
):
    page = open_file(reports[name], scheme=scheme)
    page.wait_for_timeout(200)
    for each in page.locator("summary").all():  # what is folded up is looked at too
        each.click()
    assert page.faults == []
    assert page.locator("h1").count() == 1
    assert page.locator("h2").count() >= 2
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert serious_faults(page) == []


def test_what_hinders_would_be_found(open_file, serious_faults, tmp_path):
    bad = '<html lang="en"><title>x</title><h1>x</h1><p style="color: #ddd">pale</p><input>'
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    found = serious_faults(open_file(tmp_path / "bad.html"))
    assert {fault.split()[0] for fault in found} == {"color-contrast", "label"}


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_shows_it(open_file, reports, name):
    page = open_file(reports[name], width=390, height=800)
    for each in page.locator("summary").all():
        each.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    too_wide = "svg => svg.getBoundingClientRect().right > innerWidth + 1"
    assert page.evaluate(f"[...document.querySelectorAll('svg')].filter({too_wide}).length") == 0


@pytest.mark.parametrize("name", PAGES)
def test_its_links_lead_to_its_parts_and_each_picture_says_what_it_shows(open_file, reports, name):
    page = open_file(reports[name])
    links = page.locator("nav a")
    assert links.count() >= 2
    for link in links.all():
        link.click()
        place = link.get_attribute("href").removeprefix("#")
        assert page.evaluate("decodeURIComponent(location.hash)") == f"#{place}"
        assert page.locator(f"[id='{place}']").count() == 1
    words = page.locator("figure svg").evaluate_all("all => all.map(svg => svg.ariaLabel)")
    assert all(words)
    assert (len(words) > 0) == (page.locator("figure").count() > 0)
    page.locator("body").press("Tab")
    assert page.evaluate("document.activeElement.matches('nav a, .table, summary')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_dots_of_pictures_stand_out(open_file, reports, scheme):
    """axe-core leaves drawings out: each colour in them has a contrast of 3 : 1 or is pale."""
    page = open_file(reports["run"], scheme=scheme)
    colours = page.evaluate(
        """() => [...document.querySelectorAll(
            'figure svg :is(path, use, rect, circle, text)')].filter(
            each => !each.closest('defs, clipPath')).flatMap(each => {
            const style = getComputedStyle(each);
            return [style.stroke, style.fill].filter(
                colour => colour.startsWith('rgb(') && each.getBBox && each.getBBox().width > 0);
        })"""
    )
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    rule = {"light": "rgb(201, 209, 217)", "dark": "rgb(61, 68, 77)"}[scheme]
    seen = set(colours) - {paper, rule}
    assert len(seen) >= 3
    assert {
        each: round(contrast(each, paper), 2) for each in seen if contrast(each, paper) < 3
    } == {}


def contrast(one, other):
    """As WCAG 2 defines it, of two ``rgb(r, g, b)``."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
