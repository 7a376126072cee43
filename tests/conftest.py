"""Fixtures that several rooms of the tests share."""

import os
from pathlib import Path

import pytest

# Before PyTorch is imported: two workers whose threads wait for each other take twice as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    """Let the process that collects the workers' results know DGL as lipzoo imports it.

    It imports the modules of the warnings that they gave, and DGL 2 does not import by itself.
    """
    if getattr(config.option, "numprocesses", None):
        from lipzoo._dgl import find_dgl

        find_dgl()


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    begun = set()
    for item in items:
        if item.get_closest_marker("many"):
            if (item.path, item.originalname) in begun:
                item.add_marker(pytest.mark.slow)
            begun.add((item.path, item.originalname))


SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    files = ((path, path.stat()) for path in folder.rglob("*"))
    return sorted((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in files)


@pytest.fixture(scope="session")
def raw_dir():
    """The folder of public graphs beside the checkout; nothing may be written into it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no public graphs: {SHARED_DATA} is absent")
    before = _listing(SHARED_DATA)
    yield SHARED_DATA
    assert _listing(SHARED_DATA) == before, f"a test wrote into {SHARED_DATA}"
