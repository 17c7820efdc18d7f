"""Events of a run: lines of ``events.jsonl``."""

from __future__ import annotations

from datetime import UTC, datetime


class EventKind:
    """Kinds of events."""

    RELAXED = "relaxed"
    EQUILIBRATED = "equilibrated"
    STAGE = "stage"
    BONDS = "bonds"
    WARNING = "warning"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    RESUMED = "resumed"
    FINISHED = "finished"


def now() -> str:
    """Current time in ISO format, to the second, with the time zone."""
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
