"""TensorBoard: event files in the directory of a run, without a server or an account."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from asecalc_ml.tracking.options import RunFacts, TrackerOptions
from asecalc_ml.tracking.tracker import Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: Folder of the event files, below the directory of a run.
FOLDER = "tensorboard"


class TensorBoardOptions(TrackerOptions):
    """TensorBoard: `tensorboard --logdir runs` shows all runs below a folder."""

    @property
    def label(self) -> str:
        """Name of the tracker in messages."""
        return "TensorBoard"

    def start(self, run: RunFacts) -> Tracker:
        """Begin an event file; one of the same run before it stays."""
        return TensorBoardTracker(self, run)


class TensorBoardTracker(Tracker):
    """The record of a run as event files.

    Parameters
    ----------
    options : TensorBoardOptions
    run : RunFacts
    """

    def __init__(self, options: TensorBoardOptions, run: RunFacts):
        from torch.utils.tensorboard import SummaryWriter  # fails here, and not at the first row, if missing

        self._writer_class = SummaryWriter
        self._folder = run.directory / FOLDER
        self._facts = {"name": run.name, "group": options.group, "began": run.began, "options": run.config}
        self._writer: SummaryWriter | None = None

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """Add a row to a table that grows with the steps of a run."""
        writer = self._opened(step)
        for name, value in values.items():
            writer.add_scalar(f"{table}/{name}", value, step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a whole table, as text."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        self._opened().add_text(name, text)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Add final numbers as scalars of step 0, and what is no number as text."""
        for name, value in values.items():
            if isinstance(value, Real):
                self._opened().add_scalar(f"summary/{name}", float(value), 0)
            elif value is not None:
                self._opened().add_text(f"summary/{name}", str(value))

    def close(self) -> None:
        """Write what waits."""
        if self._writer is not None:
            self._writer.close()

    def _opened(self, first_step: int | None = None) -> SummaryWriter:
        """Return the writer. Rows of a run before it was resumed, from this step on, are no longer shown."""
        if self._writer is None:
            self._writer = self._writer_class(str(self._folder), purge_step=first_step)
            facts = json.dumps(self._facts, indent=1, default=str)
            self._writer.add_text("run", f"```\n{facts}\n```")
        return self._writer
