"""The four outcomes of a check: passed, failed, undecided and not applicable.

The conformance suite, the verdicts of analyses, transfer tests, comparisons, campaign tables and reports all
use these words. Files of versions up to 0.1.0 hold other words for them, which are translated on reading.

============== ============================================================================================
passed         the statement that was checked holds
failed         it does not hold
undecided      the data are too few or too uncertain to tell
not applicable the check has no meaning for this calculator or run
============== ============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

Outcome = Literal["passed", "failed", "undecided", "not applicable"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

#: From harmless to grave: a group of checks has the outcome of its gravest member.
BY_GRAVITY: tuple[Outcome, ...] = ("not applicable", "passed", "undecided", "failed")

MARKS: dict[Outcome, str] = {"passed": "✓", "failed": "✗", "undecided": "?", "not applicable": "–"}

#: Colours for a terminal, as rich names them.
COLOURS: dict[Outcome, str] = {
    "passed": "green",
    "failed": "bold red",
    "undecided": "yellow",
    "not applicable": "dim",
}

#: Words of versions up to 0.1.0.
FORMER: dict[str, Outcome] = {
    "pass": "passed",
    "fail": "failed",
    "unclear": "undecided",
    "not decided": "undecided",
    "n.a.": "not applicable",
}


def current_word(word: Any) -> Any:
    """Translate a word of an earlier version into today's; return anything else as it is.

    Examples
    --------
    >>> current_word("unclear"), current_word("passed")
    ('undecided', 'passed')
    """
    return FORMER.get(word, word) if isinstance(word, str) else word


#: An outcome as a field of a result: words of earlier versions are accepted and translated.
StoredOutcome = Annotated[Outcome, BeforeValidator(current_word)]


def gravest(outcomes: Iterable[Outcome]) -> Outcome:
    """Outcome of a group of checks: failed before undecided before passed before not applicable.

    A group without members is not applicable.

    Examples
    --------
    >>> gravest(["passed", "undecided", "not applicable"])
    'undecided'
    """
    return max(outcomes, key=BY_GRAVITY.index, default="not applicable")
