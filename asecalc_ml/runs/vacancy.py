"""Which directories a new run can have."""

from __future__ import annotations

from pathlib import Path

from asecalc_ml.errors import RunError
from asecalc_ml.files.writing import is_unfinished, obstacle
from asecalc_ml.runs.layout import (
    CARD,
    FURTHER,
    LOCK,
    MEMBER_CARDS,
    PROTOCOL,
    PROVENANCE,
    RESULTS,
    START,
)

#: Files that a new run writes first; without :data:`PROTOCOL` they are no run.
BEFORE_PROTOCOL = (FURTHER, START, CARD, MEMBER_CARDS, PROVENANCE)

CHOOSE_ANOTHER = "choose another directory"


def check_free(directory: str | Path, overwrite: bool = False) -> None:
    """Refuse a directory that a new run cannot have, before anything is computed.

    Raises
    ------
    RunError
        If it holds a run that is not to be overwritten, or something that is no run.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise RunError(f"{directory} is a file", name=str(directory), remedy=CHOOSE_ANOTHER)
    if (directory / PROTOCOL).is_file():
        _check_overwriting(directory, overwrite)
    elif others := [path.name for path in directory.glob("*") if not _is_left_over(path)]:
        raise RunError(
            f"{directory} is not a run directory: it contains {min(others)}",
            name=str(directory),
            value=min(others),
            remedy=CHOOSE_ANOTHER,
        )


def check_writable(directory: str | Path) -> None:
    """Refuse a directory that cannot be made or written to; nothing is left there.

    Raises
    ------
    RunError
    """
    if why := obstacle(Path(directory)):
        raise RunError(
            f"cannot write to {directory} ({why})",
            name=str(directory),
            remedy=f"{CHOOSE_ANOTHER}, or mend permissions",
        )


def _check_overwriting(directory: Path, overwrite: bool) -> None:
    if not overwrite:
        raise RunError(
            f"{directory} holds a run already",
            name=str(directory),
            remedy=f"`asecalc-md resume {directory}` goes on with it, --overwrite (overwrite=True in Python) "
            f"replaces it, or {CHOOSE_ANOTHER}",
        )


def _is_left_over(path: Path) -> bool:
    """Whether a file or folder may come from a run that was killed before it had a :data:`PROTOCOL`."""
    if path.is_dir():
        return path.name == RESULTS and not any(path.iterdir())
    return path.name in (LOCK, *BEFORE_PROTOCOL) or is_unfinished(path)
