"""Chromium: found, or installed where that is allowed."""

import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Seconds that one step of an installation may take.
PATIENCE = 600
#: No questions, and another installation that runs is waited for.
APT = ("apt-get", "-y", "-o", "DPkg::Lock::Timeout=120")
INSTALL = (*APT, "install", "--no-install-recommends", "chromium")


class NoChromium(Exception):
    """There is none; the words say why it was not installed."""


def chromium():
    """The program.

    Where it is absent, it is installed from the lists of packages that are there, and, if they
    name none, from new ones.

    Raises
    ------
    NoChromium
        If it is absent and cannot be installed.
    """
    if found := _found():
        return found
    if shutil.which("apt-get") is None:
        raise NoChromium("no Chromium, and it cannot be installed: no apt-get")
    if os.geteuid() != 0:
        raise NoChromium("no Chromium, and it cannot be installed: only root may")
    fault = _run(INSTALL)
    if fault:
        _run((*APT, "update"))  # part of it may fail, and the rest suffice
        fault = _run(INSTALL)
    if found := _found():
        return found
    raise NoChromium(f"Chromium cannot be installed: {fault or 'apt-get installed no program'}")


def _found():
    return next(filter(None, map(shutil.which, NAMES)), None)


def _run(command):
    """What went wrong, in words; nothing where nothing did."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} took longer than {PATIENCE} seconds"
    except OSError as fault:
        return f"{command[0]}: {fault.strerror}"
    if run.returncode == 0:
        return ""
    return (run.stderr.strip() or run.stdout.strip() or f"exit code {run.returncode}")[-300:]
