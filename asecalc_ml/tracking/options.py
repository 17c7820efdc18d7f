"""Options that trackers have in common, and the facts of a run that they are given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.tracking.tracker import Tracker


@dataclass(frozen=True)
class RunFacts:
    """The run that is logged.

    Parameters
    ----------
    directory : Path
        Where the run writes its own files; a tracker's files go there, too.
    name : str
    began : str
        Tells the run from others of its name; the same when it is resumed or analysed.
    config : mapping
        Options of the run, as plain values.
    """

    directory: Path
    name: str
    began: str
    config: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """16 hexadecimal digits that stay when the run is resumed or analysed."""
        return hashlib.sha256(f"{self.name} {self.began}".encode()).hexdigest()[:16]


class TrackerOptions(Options):
    """Base of the options of all trackers, which are plugins of the group ``asecalc_ml.trackers``."""

    group: str | None = Field(
        None, description="name under which runs are shown together; campaigns and searches give their own"
    )

    @property
    def label(self) -> str:
        """Name of the tracker in messages."""
        return type(self).__name__

    def start(self, run: RunFacts) -> Tracker:
        """Begin the record of a run, or continue that of a run that is resumed.

        This method and those of the record it returns are called in a thread of their own and may raise
        anything: the first error ends the record, with a warning, and the run continues.
        """
        raise NotImplementedError

    def give_up(self, is_hanging: bool) -> None:
        """Release whatever could keep the process from ending, after an error.

        Parameters
        ----------
        is_hanging : bool
            True if a call has not returned in time.
        """
