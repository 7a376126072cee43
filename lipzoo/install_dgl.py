"""Install the DGL that goes with this Python: ``python -m lipzoo.install_dgl``.

=========== ========= ==================================================================
Python      DGL       how
=========== ========= ==================================================================
3.10, 3.11  1.1.3     PyPI; the newest that imports with a current PyTorch
3.12        2.1.0     PyPI
3.13        2.1.0     PyPI's wheel for 3.12, with another tag: its C++ library does not
                      depend on Python's version, and DGL falls back to ctypes
=========== ========= ==================================================================

`pip` does the first two by itself (not under ``LIPZOO_WITHOUT_DGL=1``); the third it cannot be told
in a dependency. What DGL 2.1 needs
besides (pandas, networkx, psutil) are dependencies of lipzoo there.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["install", "main"]

_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
_CHECK = "from lipzoo._dgl import need_dgl; print(need_dgl('this').__version__)"


def main() -> int:
    """Install DGL unless it is there and imports; 0, or 1 with a line that says what is wrong."""
    try:
        print(f"DGL {install()} is installed, and imports")
    except subprocess.CalledProcessError as fault:
        words = (fault.stderr or "").strip().splitlines() or [f"exit code {fault.returncode}"]
        print(f"install_dgl: {words[-1]}", file=sys.stderr)
        print(
            "install_dgl: DGL has wheels for Linux on x86-64, and for some other systems up to "
            "Python 3.11; there, and with access to a package index, it can be installed",
            file=sys.stderr,
        )
        return 1
    return 0


def install() -> str:
    """Install DGL where it is missing, check that it imports, and return its version.

    Raises
    ------
    subprocess.CalledProcessError
        If a step fails; its ``stderr`` says why.
    """
    try:
        importlib.metadata.version("dgl")
    except importlib.metadata.PackageNotFoundError:
        if sys.version_info < (3, 12):
            _run(*_PIP, "install", "dgl==1.1.3", "packaging")
        elif sys.version_info < (3, 13):
            _run(*_PIP, "install", "dgl==2.1.0", "pandas")
        else:
            _install_retagged()
    return _run(sys.executable, "-c", _CHECK).strip().splitlines()[-1]


def _install_retagged() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12"]
        _run(*_PIP, "download", *wanted, "--dest", folder, "dgl==2.1.0")
        [wheel] = Path(folder).glob("dgl-*.whl")
        tags = ["--python-tag", "py3", "--abi-tag", "none", "--remove"]
        _run(sys.executable, "-m", "wheel", "tags", *tags, str(wheel))
        [wheel] = Path(folder).glob("dgl-*.whl")
        _run(*_PIP, "install", "--no-deps", str(wheel))


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
