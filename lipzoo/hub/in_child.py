"""``huggingface_hub`` fetches one file in a child, which can be ended where it is too slow."""

from __future__ import annotations

import json
import subprocess
import sys

from lipzoo._fetch import pace
from lipzoo._fetch.watch import download_seconds
from lipzoo.errors import CheckpointError

__all__ = ["fetch_in_child"]

#: Seconds after which a child that should have ended itself is killed.
_GRACE = 30

# Imports the library only; lipzoo's own imports would take longer than most downloads.
_PROGRAM = """
import json, runpy, signal, sys
sys.path[:] = json.loads(sys.stdin.readline())
order = json.loads(sys.stdin.readline())
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.utils import tqdm

for name, value in order["constants"].items():
    setattr(constants, name, value)
constants.DOWNLOAD_CHUNK_SIZE = 2**16
pace = runpy.run_path(order["pace"])["Pace"](order["seconds"])
class GivenUp(BaseException): pass

class Bar(tqdm):
    came = 0
    def update(self, n=1):
        pace.came(n or 0)
        self.came += n or 0
        if self.came > order["most"]:
            raise GivenUp(f"more than {order['most']:,} bytes came, which is all that it may be; "
                          "tell whoever offers it")
        return super().update(n)

def look(*_):
    if fault := pace.fault():
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise GivenUp(f"is given up: {fault}; try again later")

signal.signal(signal.SIGALRM, look)
signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
fault = None
try:
    huggingface_hub.hf_hub_download(tqdm_class=Bar, **order["options"])
except GivenUp as given_up:
    fault = str(given_up)
except Exception as broken:
    fault = f"{type(broken).__name__}: {(str(broken).strip().splitlines() or [''])[0]}; try again"
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps(fault))
"""
#: What a process may have set after the library read its environment.
_CONSTANTS = (
    "ENDPOINT",
    "HUGGINGFACE_CO_URL_TEMPLATE",
    "HF_HUB_CACHE",
    "HF_TOKEN_PATH",
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_XET",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
)


def fetch_in_child(name: str, most: int, **options) -> None:
    """Let the library fetch a file of at most ``most`` bytes into its cache.

    Parameters
    ----------
    name : str
        Stands before a message.
    most : int
        Bytes.
    **options
        Of ``hf_hub_download``.

    Raises
    ------
    CheckpointError
        If it is longer, too slow, or cannot be fetched.
    """
    from huggingface_hub import constants

    seconds = download_seconds()
    order = {
        "constants": {each: getattr(constants, each) for each in _CONSTANTS},
        "pace": pace.__file__,
        "seconds": seconds,
        "most": most,
        "options": options,
    }
    lines = f"{json.dumps(sys.path)}\n{json.dumps(order)}\n"
    try:
        child = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=lines,
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds + _GRACE,
        )
        fault = json.loads(child.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        fault = f"is given up: it took longer than {seconds:g} s; try again later"
    except (IndexError, ValueError):
        fault = "the process that fetched it was ended; try again"
    if fault is not None:
        raise CheckpointError(f"{name}: {fault}")
