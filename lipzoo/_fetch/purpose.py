"""What a download is for: its words where something is wrong, and the kind of its errors."""

from __future__ import annotations

from dataclasses import dataclass

from lipzoo.errors import LipzooError

__all__ = ["Purpose"]


@dataclass(frozen=True)
class Purpose:
    """Completes the messages of a download.

    Parameters
    ----------
    error : type
        What is raised where what comes cannot be trusted.
    stated_by : str
        Who says which hash and length are right: ``"the card"``.
    by_hand : str
        What to do instead, after "if you trust it".
    """

    error: type[LipzooError]
    stated_by: str
    by_hand: str
