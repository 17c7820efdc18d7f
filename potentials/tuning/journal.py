"""The journal of a search: every event in the order in which it happened, on the disk before it counts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from asecalc_ml.errors import TuningError
from asecalc_ml.files.full_disk import reason
from asecalc_ml.files.reading import read_json_lines
from asecalc_ml.files.tables import whole_lines
from asecalc_ml.files.writing import cut_to_whole_lines

JOURNAL = "journal.jsonl"

#: Kinds of events. A session is a process that schedules; it begins with "begun" or "resumed".
BEGUN, RESUMED, SUBMITTED, STARTED, LOST, ENDED = "begun", "resumed", "submitted", "started", "lost", "ended"


class Event(BaseModel):
    """A line of the journal; what else it holds depends on the kind."""

    model_config = ConfigDict(extra="allow")

    kind: str
    time: float


class Journal:
    """Appends events to the journal of a search.

    Parameters
    ----------
    directory : Path
        Folder of the search, whose lock this process holds.
    """

    def __init__(self, directory: Path):
        self.path = directory / JOURNAL
        cut_to_whole_lines(self.path)  # what a kill or a full disk has left of a line
        self._file = self.path.open("ab", buffering=0)

    def append(self, kind: str, **values: Any) -> dict[str, Any]:
        """Write an event, and return it once the disk has it.

        Raises
        ------
        TuningError
            If it cannot be written; the journal is then as it was before.
        """
        event = {"kind": kind, "time": round(time.time(), 3), **values}
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(line)
            while written < len(line):  # a disk that is nearly full takes a part
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), size)
            raise TuningError(
                f"cannot write to {self.path}: {reason(error, self.path)}.",
                name=str(self.path),
                remedy="The journal is whole: continue with --resume, once there is space and the permission "
                "to write",
            ) from error
        return event

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(directory: Path) -> list[dict[str, Any]]:
    """Events of a search; one whose line is not whole does not count.

    Raises
    ------
    RunError
        If a line is damaged; the message names it.
    """
    path = directory / JOURNAL
    return read_json_lines(path, whole_lines(path), Event)
