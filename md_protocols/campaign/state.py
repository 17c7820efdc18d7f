"""How far the runs of a campaign are: their directories say it, and one small file what went wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import RunError
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.files.reading import read_json
from asecalc_ml.files.writing import write_whole
from asecalc_ml.md_protocols.engine.differences import more_steps, other_run
from asecalc_ml.md_protocols.integrators import thermostat_choice
from asecalc_ml.runs import FAILURES as FAILED_ANALYSES
from asecalc_ml.runs import PROTOCOL, PROVENANCE, REPORT, RESULTS, THERMO, RunReader, check_free

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.campaign.options import GridPoint
    from asecalc_ml.md_protocols.options import ProtocolOptions

FAILURES = "campaign.json"
LOCK = ".campaign.lock"
FREE = {"directory", "threads", "tracking", "workers"}  # options that may differ from those of the run

WAITING, UNFINISHED, UNANALYSED = "waiting", "unfinished", "to be analysed"
DONE, STOPPED = "done", "stopped"  # came to its end, or to one that `stop` in its options names


def state_of(directory: Path, options: ProtocolOptions) -> str:
    """One of the five words above.

    Raises
    ------
    RunError
        If the directory holds something else, or a run with other options.
    """
    if not (directory / PROTOCOL).is_file():
        check_free(directory)
        return WAITING
    run = RunReader(directory)
    _check_same(run, options)
    is_finished = run.finished and more_steps(run, options) <= 0
    if not is_finished and not run.stopped_as_asked:
        return UNFINISHED
    if not _is_analysed(directory):
        return UNANALYSED
    return DONE if run.finished else STOPPED


def _is_analysed(directory: Path) -> bool:
    """Whether the report is younger than the end of the run, and no analysis has failed."""
    report = directory / REPORT
    if not report.is_file() or (directory / RESULTS / FAILED_ANALYSES).is_file():
        return False
    return report.stat().st_mtime_ns >= (directory / PROVENANCE).stat().st_mtime_ns


def _check_same(run: RunReader, options: ProtocolOptions) -> None:
    """Refuse a run with other options than more steps, where it can have more."""
    stored = parse_options(run.read_options(), type(options), str(run.directory / PROTOCOL))
    is_longer = more_steps(run, options) > 0 and not thermostat_choice.of_begun_run(stored).why_not_longer
    different = other_run(run, options, FREE | ({"steps"} if is_longer else set()))
    if different:
        raise RunError(
            f"{run.directory} holds a run with other options ({'; '.join(different)})",
            name=str(run.directory),
            value=different,
            remedy="bring them back, give the campaign another directory, or remove that run",
        )


def steps_of(directory: Path) -> int | None:
    """The last step in thermo.csv; None before there is one."""
    path = directory / THERMO
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1000))
        lines = file.read().split(b"\n")[:-1]  # what comes after the last end of a line is not whole
    words = lines[-1].split(b",") if lines else []
    return int(words[0]) if words and words[0].isdigit() else None


class _Failures(BaseModel):
    """Contents of campaign.json."""

    failures: dict[str, list[str]]


class CampaignFolder:
    """The folder of a campaign: its runs, and how often and why each has failed.

    Parameters
    ----------
    directory : Path
    writes : bool
        Whether runs are to be made; otherwise nothing is touched, and another process may be at it.

    Raises
    ------
    RunBusyError
        If another process is at this campaign.
    """

    def __init__(self, directory: Path, writes: bool = True):
        self.directory, self._lock = directory, None
        if writes:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(directory / LOCK, "running this campaign")
        path = directory / FAILURES
        try:
            remedy = "remove it, and failures are counted anew"
            contents = read_json(path, _Failures, remedy=remedy) if path.is_file() else {"failures": {}}
        except RunError:
            self.close()
            raise
        self.failures: dict[str, list[str]] = contents["failures"]

    def path(self, point: GridPoint) -> Path:
        """Run directory of a point."""
        return self.directory / point.name

    def why_failed(self, point: GridPoint) -> list[str]:
        """What went wrong, once for each time."""
        return self.failures.get(point.name, [])

    def note_failure(self, point: GridPoint, text: str) -> None:
        """Remember that a run failed."""
        self.failures.setdefault(point.name, []).append(text)
        write_whole(self.directory / FAILURES, json.dumps({"failures": self.failures}, indent=1) + "\n")

    def close(self) -> None:
        """Let others run it."""
        if self._lock is not None:
            self._lock.close()
