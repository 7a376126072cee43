"""Two commands that write elsewhere: into the cache of downloads, and a repository on the Hub.

Both servers are on this machine, those of the tests.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loopback import file_server, hub_server

from adversary.writers import Writer
from lipzoo._yaml import read_yaml
from lipzoo.weights import CARD_FILE, WEIGHTS_FILE, sha256

__all__ = ["NETWORK_WRITERS", "network_writers"]

NETWORK_WRITERS = ("download", "push")

REPOSITORY = "jane/iris"


@contextmanager
def network_writers(folder: str) -> Iterator[dict[str, Writer]]:
    """``download`` and ``push``, while their servers run."""
    os.environ |= {"NO_PROXY": "127.0.0.1,localhost", "HF_HOME": f"{folder}/hf"}
    for name in ("LIPZOO_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        os.environ.pop(name, None)
    with ExitStack() as stack:
        files, hub = stack.enter_context(file_server()), stack.enter_context(hub_server())
        files.pause = 0.002  # so that a kill meets the transfer
        yield {"download": _download(files), "push": _push(hub)}


def _download(server) -> Writer:
    def publish(sources: Path, version: str) -> None:
        for name in (CARD_FILE, WEIGHTS_FILE):
            server.files[f"/zoo/{name}"] = (sources / f"{version}_weights" / name).read_bytes()

    def argv(sources: Path, version: str, out: Path) -> list[str]:
        os.environ["LIPZOO_HOME"] = str(out)  # read by the child, which is forked afterwards
        return ["info", f"{server.url}/zoo"]

    def result(out: Path) -> object:
        """The card and the weights of the newest version, as a reader of the cache finds them."""
        for card in out.rglob(CARD_FILE):
            weights = card.with_name(WEIGHTS_FILE)
            assert weights.is_file(), "a card without weights"
            wanted = read_yaml(card)["weights"]["sha256"]
            assert sha256(weights.read_bytes()) == wanted, "weights that are not the card's"
        for index in out.rglob("index.yaml"):
            place = index.with_name(read_yaml(index)["version"][:16])
            return tuple((place / name).read_bytes() for name in (CARD_FILE, WEIGHTS_FILE))
        return None

    return Writer(
        "download", argv, result, again=(), free=(".lock",), before=publish, overwrites=False
    )


def _push(hub) -> Writer:
    kept: dict[Path, list] = {}

    def files(out: Path, free: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Of the newest commit: what a reader gets."""
        commits = hub.files.get(REPOSITORY, [])
        return dict(commits[-1][2]) if commits else {}

    def keep(out: Path, place: Path) -> None:
        kept[place] = list(hub.files[REPOSITORY])

    def reset(out: Path, start: Path | None) -> None:
        hub.files.clear()
        if start is not None:
            hub.files[REPOSITORY] = list(kept[start])

    def argv(sources: Path, version: str, out: Path) -> list[str]:
        return ["push", str(sources / f"{version}_weights"), REPOSITORY]

    return Writer(
        "push",
        argv,
        lambda out: files(out) or None,
        again=(),
        before=lambda sources, version: _point_at(hub.url),
        overwrites=False,
        files=files,
        keep=keep,
        reset=reset,
    )


@functools.cache
def _point_at(url: str) -> None:
    """The library reads its variables once."""
    import huggingface_hub
    from huggingface_hub import constants

    import lipzoo.hub.model_card  # noqa: F401  imported here, not by each child

    constants.ENDPOINT = url
    constants.HUGGINGFACE_CO_URL_TEMPLATE = url + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_DISABLE_XET = True
    huggingface_hub.close_session()
