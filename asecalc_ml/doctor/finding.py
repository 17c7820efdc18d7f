"""Results of the examination."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from asecalc_ml.outcome import Outcome


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Parameters
    ----------
    topic : str
        Group of checks, such as "packages".
    name : str
        What was checked.
    outcome : {"passed", "failed", "undecided", "not applicable"}
    text : str
        What was found, in one line.
    remedy : str
        What to do about it, in one line; empty where nothing has to be done.
    """

    topic: str
    name: str
    outcome: Outcome
    text: str
    remedy: str = ""


#: A group of checks; yields its findings as they come.
Checks = Callable[[], Iterator[Finding]]
