"""The built site, and a browser that looks at it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import chromium_program
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the HTML, built anew with no warning, its tutorials run."""
    pytest.importorskip("sphinx", reason="pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    # A copy, for the build writes pages beside the others.
    source = folder / "docs"
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("_build", "api"))
    for name in ("results", "CHANGELOG.md", "CONTRIBUTING.md"):
        (folder / name).symlink_to(ROOT / name)
    out = folder / "html"
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    run = subprocess.run(
        [*command, str(source), str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return out


@pytest.fixture(scope="session")
def chromium():
    """The program, installed where it is not and may be."""
    try:
        return chromium_program.chromium()
    except chromium_program.NoChromium as fault:
        pytest.skip(str(fault))


@pytest.fixture(scope="session")
def browser(chromium):
    """Chromium without a window, without a network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[dev]'")
    with playwright.sync_playwright() as started:
        # No sandbox: as root, in a container, Chromium does not start with one.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--proxy-server=127.0.0.1:9"]
        launched = started.chromium.launch(executable_path=chromium, args=options)
        yield launched
        launched.close()


@pytest.fixture
def open_file(browser):
    """Open an HTML file; what goes wrong in it is in ``page.faults``."""
    pages = []

    def opened(path, width=1200, height=900, scheme="light", query=""):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.faults = []
        page.on("pageerror", lambda fault: page.faults.append(str(fault)))
        page.on("console", lambda said: said.type == "error" and page.faults.append(said.text))
        page.on("requestfailed", lambda asked: page.faults.append(f"failed: {asked.url}"))
        page.on("request", lambda asked: is_here(asked.url) or page.faults.append(asked.url))
        page.goto(f"{path.as_uri()}?{query}", wait_until="load")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def open_page(open_file, site):
    """Open a page of the site, by its name; see ``open_file``."""
    return lambda name, **options: open_file(site / name, **options)


@pytest.fixture
def serious_faults():
    """Of a page, what axe-core finds that hinders people: contrast, names of fields and links, …"""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def found(page):
        return [
            f"{fault['id']} ({fault['impact']}): {node['html'][:200]}"
            for fault in axe.run(page).response["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    return found


def is_here(url):
    """Whether nothing leaves the machine for it."""
    return url.startswith(("file:", "blob:", "data:"))
