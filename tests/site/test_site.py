"""The site as a person meets it: built, opened in Chromium, used with mouse, keyboard and phone."""

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

import lipzoo

pytestmark = pytest.mark.slow
GALLERY = "gallery/index.html"
#: A page of each kind.
PAGES = (
    *("index.html", GALLERY, "gallery/gat_lip_16.digits.html", "depth.html"),
    *("reference/api/lipzoo.nn.html", "howto/index.html", "search.html"),
)
ROWS = "#weights-table tbody tr"


class References(HTMLParser):
    """What a page refers to, and the places in it that others may refer to."""

    def __init__(self, text):
        super().__init__()
        self.to, self.ids, self.loaded, self.images = [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.to.append(found["href"])
        if tag in ("img", "script", "iframe", "source", "video") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") not in ("canonical", "license"):
            self.loaded.append(found["href"])
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="module")
def pages(site):
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    return {path: References(path.read_text(encoding="utf-8")) for path in paths}


def test_no_link_is_broken(site, pages):
    broken, seen = [], 0
    for path, page in pages.items():
        for reference in [*page.to, *page.loaded]:
            place, fragment = urldefrag(reference)
            if urlsplit(place).scheme:
                continue
            target = (path.parent / unquote(urlsplit(place).path)).resolve() if place else path
            seen += 1
            exists = target.exists() and site in target.parents
            if exists and fragment and target in pages:
                exists = unquote(fragment) in pages[target].ids
            if not exists:
                broken.append(f"{path.relative_to(site)}: {reference}")
    assert seen > 1000
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    loaded = [one for page in pages.values() for one in page.loaded]
    assert len(loaded) > 100
    assert [one for one in loaded if urlsplit(one).scheme not in ("", "data")] == []
    for path in site.rglob("*.css"):
        urls = re.findall(r"url\(\s*['\"]?(?!data:)([^)'\"]+)", path.read_text(encoding="utf-8"))
        assert [url for url in urls if urlsplit(url).scheme or url.startswith("//")] == [], path


def test_every_image_says_what_it_shows(pages):
    images = [image for page in pages.values() for image in page.images]
    assert len(images) > 20
    assert [image for image in images if not image.get("alt")] == []


def test_every_public_name_has_its_place(site):
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        found = InventoryFile.load(file, "", lambda base, place: place)
    known = {name for kind, names in found.items() if kind.startswith("py:") for name in names}
    # In a process of its own: here, other tests have imported modules that lipzoo does not.
    code = (
        "import lipzoo, types\n"
        "print(*(n for n in dir(lipzoo) if isinstance(getattr(lipzoo, n), types.ModuleType)))"
    )
    rooms = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    rooms = [name for name in rooms if name[0] != "_" and name not in ("cli", "info")]
    assert {"nn", "card", "lipschitz", "training"} <= set(rooms)
    public = {f"lipzoo.{name}" for name in [*lipzoo.__all__, *rooms]}
    for name in rooms:
        module = importlib.import_module(f"lipzoo.{name}")
        public |= {f"lipzoo.{name}.{each}" for each in module.__all__}
    assert len(public) > 150
    assert public - known == set()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_fault(open_page, name):
    page = open_page(name)
    page.wait_for_timeout(500)
    assert page.faults == []
    assert page.locator("h1").count() == 1
    broken = "img => !(img.complete && img.naturalWidth > 0)"
    assert page.evaluate(f"[...document.images].filter({broken}).map(img => img.src)") == []


def shown(page):
    """The names in the table, from top to bottom."""
    page.wait_for_selector(ROWS)
    return page.locator(f"{ROWS} td:first-child").all_inner_texts()


def test_the_table_has_all_weights_and_is_searched(open_page):
    page = open_page(GALLERY)
    assert shown(page) == lipzoo.list_models(pretrained=True)
    page.get_by_label("Search:").fill("minesweeper")
    assert shown(page) == [f"gat_lip_lin_{depth}.minesweeper" for depth in (8, 15)]
    page.get_by_label("Search:").fill("")
    assert len(shown(page)) == len(lipzoo.list_models(pretrained=True))
    assert page.faults == []


def column(page, name):
    """The number of a column, from 1."""
    names = page.locator("#weights-table thead tr:first-child th").all_inner_texts()
    return [each.strip() for each in names].index(name) + 1


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("graph", "citeseer", lambda names: all("cit" in each for each in names)),
        ("layers", "64", lambda names: names == ["gat_lip_res_64.cora", "gat_lip_rev_64.cora"]),
        ("norm", "dot", lambda names: all(each.startswith("gt_") for each in names)),
        ("metric", "ROC", lambda names: {"gt_lip_sep_4.tolokers"} < set(names)),
    ],
)
def test_a_column_filters(open_page, name, wanted, expected):
    page = open_page(GALLERY)
    shown(page)
    field = f"#weights-table thead tr:nth-child(2) > :nth-child({column(page, name)}) input"
    page.locator(field).fill(wanted)
    page.wait_for_timeout(300)
    found = shown(page)
    assert 0 < len(found) < 10
    assert expected(found), found


@pytest.mark.parametrize("name", ["parameters", "MB", "test %", "layers"])
def test_sorting_sorts_numbers(open_page, name):
    page = open_page(GALLERY)
    shown(page)
    index = column(page, name)
    head = page.locator(f"#weights-table thead tr:first-child th:nth-child({index})")
    for order in ("ascending", "descending"):
        head.click()
        page.wait_for_selector(f"#weights-table th[aria-sort={order}]")
        cells = page.locator(f"{ROWS} td:nth-child({index})").all_inner_texts()
        values = [float(cell.replace(",", "")) for cell in cells if cell not in ("", "-")]
        assert len(values) > 15
        assert values == sorted(values, reverse=order == "descending")


def test_a_name_leads_to_its_page(open_page):
    page = open_page(GALLERY)
    page.get_by_role("link", name="gat_lip_res_32.cora", exact=True).first.click()
    page.wait_for_load_state("load")
    text = page.locator("article").inner_text()
    assert page.locator("h1").inner_text().startswith("gat_lip_res_32.cora")
    for words in ("85.2 ± 0.4", "load_pretrained", "Apache-2.0", "lipzoo train", "fingerprint"):
        assert words in text
    pictures = page.locator('article img[src*="gat_lip_res_32.cora"]').all()
    assert len(pictures) == 3, "the seeds, and two curves of the training"
    assert all(picture.is_visible() for picture in pictures)


def test_the_search_finds_a_function(open_page):
    page = open_page("search.html", query="q=lipschitzify")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    assert "lipschitzify" in page.locator("#search-results").inner_text()
    assert page.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(open_page, serious_faults, name, scheme):
    page = open_page(name, scheme=scheme)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert serious_faults(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_shows_it(open_page, name):
    page = open_page(name, width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if name == GALLERY:
        page.get_by_label("Search:").fill("tolokers")
        assert shown(page) == ["gt_lip_sep_4.tolokers"]
        assert page.locator(f"{ROWS} a").is_visible()


def test_the_keyboard_alone_reaches_search_and_table(open_page):
    page = open_page(GALLERY)
    shown(page)
    page.keyboard.press("Control+k")
    page.keyboard.type("certify")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.go_back()
    shown(page)
    for _ in range(60):  # past the links on top
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.dt-search input')"):
            break
    page.keyboard.type("huangpu")
    assert shown(page) == ["gat_lip_lin_16.huangpu"]
    for _ in range(40):  # past the columns' names and fields
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#weights-table tbody a')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/gat_lip_lin_16.huangpu.html")
