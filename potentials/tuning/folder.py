"""The folder of a search: its lock, what may be resumed, and its journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asecalc_ml import __version__
from asecalc_ml.config.options import dump_yaml, load_options
from asecalc_ml.errors import TuningError
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.files.writing import obstacle, write_whole
from asecalc_ml.potentials.tuning.checks import differences
from asecalc_ml.potentials.tuning.journal import BEGUN, JOURNAL, RESUMED, Journal, read_events
from asecalc_ml.potentials.tuning.options import TuneOptions
from asecalc_ml.potentials.tuning.results import OPTIONS, SearchResults, write_results
from asecalc_ml.potentials.tuning.trials import TrialList

LOCK = ".search.lock"

#: Options that a resumed search may have otherwise: no trial's values or result depends on them.
FREE_AT_RESUME = (
    "device", "threads", "tracking", "search.trials", "search.hours", "search.executor", "search.workers",
    "search.ray_address", "search.retries", "search.directory",
)  # fmt: skip


class SearchFolder:
    """A search that this process schedules.

    Parameters
    ----------
    options : TuneOptions
    resume : bool
        Continue a search that has begun.
    allow_different : bool
        Continue although the search began with another version of the package.

    Attributes
    ----------
    directory : Path
    trials : TrialList

    Raises
    ------
    TuningError
        If there is nothing to resume or something would be lost, or the search began with other options or
        another version.
    RunBusyError
        If another process schedules it.
    """

    def __init__(self, options: TuneOptions, resume: bool, allow_different: bool = False):
        self.options, self.directory = options, options.search_directory
        check_folder(options, resume, allow_different)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.directory / LOCK, "running this search")
        try:
            check_folder(options, resume, allow_different)  # another process may have begun it meanwhile
            events = read_events(self.directory)
            self.trials = TrialList.read(self.directory, events)
            self.journal = Journal(self.directory)
            write_whole(self.directory / OPTIONS, dump_yaml(_stored(options)), sync=True)
            self.note(RESUMED if events else BEGUN, version=__version__)
        except BaseException:
            self._lock.close()
            raise

    def note(self, kind: str, **values: Any) -> None:
        """Write an event to the journal, and take it in once the disk has it."""
        self.trials.take(self.journal.append(kind, **values))

    @property
    def results(self) -> SearchResults:
        """Trials as they are now."""
        trials = self.trials
        return SearchResults(self.directory, self.options, trials.trials, trials.seconds, trials.version)

    def write_results(self) -> Path:
        """Write results.csv."""
        return write_results(self.results)

    def close(self) -> None:
        """Close the journal, and release the lock."""
        self.journal.close()
        self._lock.close()


def has_begun(directory: Path) -> bool:
    """Whether a folder holds a search."""
    return (directory / JOURNAL).is_file() and bool(read_events(directory))


def check_folder(options: TuneOptions, resume: bool, allow_different: bool) -> None:
    """Look whether the search may begin or continue; nothing is touched.

    Raises
    ------
    TuningError
    """
    directory = options.search_directory
    if why := obstacle(directory):
        raise TuningError(
            f"cannot write to {directory} ({why})",
            name=str(directory),
            remedy="choose another search.directory",
        )
    if has_begun(directory) and not resume:
        raise TuningError(
            f"{directory} holds a search that has begun",
            name=str(directory),
            remedy="continue with --resume, or choose another name or search.directory",
        )
    if resume and not has_begun(directory):
        raise TuningError(
            f"nothing to resume: {directory} holds no search;",
            name=str(directory),
            remedy="start without --resume",
        )
    if resume:
        _check_same(directory, options, allow_different)


def _check_same(directory: Path, options: TuneOptions, allow_different: bool) -> None:
    before = load_options(directory / OPTIONS, TuneOptions)
    changed = differences(_compared(before), _compared(options), FREE_AT_RESUME)
    if changed:
        raise TuningError(
            f"the search in {directory} began with other options ({'; '.join(changed)}):",
            name=str(directory),
            value=changed,
            remedy="put them back to resume it, or start another search with a new name or search.directory",
        )
    versions = [event["version"] for event in read_events(directory) if event["kind"] in (BEGUN, RESUMED)]
    if versions[-1] != __version__ and not allow_different:
        raise TuningError(
            f"the search in {directory} was run by version {versions[-1]} of asecalc-ml, and this is "
            f"{__version__}: results may not compare.",
            name=str(directory),
            value=versions[-1],
            allowed=[__version__],
            remedy="Install the former version, or continue with --allow-different",
        )


def _stored(options: TuneOptions) -> dict[str, Any]:
    """Options as they were given, which is what a trial's options are made from."""
    return options.model_dump(mode="json", exclude_unset=True)


def _compared(options: TuneOptions) -> dict[str, Any]:
    return options.model_dump(mode="json")
