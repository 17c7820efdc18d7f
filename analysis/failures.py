"""Analyses that failed: each fails alone, and is named in the report with the error and its place."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from asecalc_ml import errors, plugins
from asecalc_ml.analysis.base import Record, Verdict
from asecalc_ml.errors import AnalysisError, AsecalcError, PluginError, together
from asecalc_ml.files.full_disk import writing
from asecalc_ml.files.reading import read_json
from asecalc_ml.files.writing import write_whole
from asecalc_ml.runs import ANALYSIS_LOG, FAILURES, RESULTS

LONGEST_MESSAGE = 500  # characters; the log has all of it


class Failure(Record):
    """Why an analysis has no result, or not all of it is shown."""

    analysis: str = Field(description="registered name")
    error: str = Field(description="type of the error")
    message: str
    place: str = Field("", description="file, line and function; empty where the message says what to do")

    @classmethod
    def of(cls, analysis: str, error: BaseException) -> Failure:
        """Describe an error."""
        message = " ".join(str(error).split())[:LONGEST_MESSAGE]
        place = "" if isinstance(error, AsecalcError) else place_of(analysis, error)
        return cls(analysis=analysis, error=type(error).__name__, message=message, place=place)

    @property
    def text(self) -> str:
        """The message, with type and place of an error that nobody has foreseen."""
        if not self.place:
            return self.message
        return f"{self.error}: {self.message or 'no message'} ({self.place})"

    @property
    def verdict(self) -> Verdict:
        """A line for the report."""
        log = f"; the traceback is in {ANALYSIS_LOG}" if self.place else ""
        return Verdict(check=f"the analysis {self.analysis} worked", status="failed", text=self.text + log)


class _Stored(Record):
    """Contents of :data:`FAILURES`."""

    failures: list[Failure]


class Failures:
    """The failures of a run's analyses, the first one of each, kept in its directory for the report.

    Parameters
    ----------
    directory : Path
        The run directory.
    is_new : bool
        Whether those of an earlier analysis are to be replaced.
    """

    def __init__(self, directory: Path, is_new: bool = False):
        self._path, self._log = directory / RESULTS / FAILURES, directory / ANALYSIS_LOG
        self._by_name: dict[str, Failure] = {}
        self._foreseen: dict[str, AsecalcError] = {}  # errors of ours by message, without their tracebacks
        self._replaces = is_new
        if self._path.is_file() and not is_new:
            stored = read_json(self._path, _Stored, remedy="`asecalc-md report` writes it anew, or remove it")
            self._by_name = {failure["analysis"]: Failure(**failure) for failure in stored["failures"]}

    def replace_earlier(self) -> None:
        """Remove those of an earlier analysis from the directory."""
        if self._replaces:
            for path in (self._path, self._log):
                path.unlink(missing_ok=True)
            self._replaces = False

    def __contains__(self, analysis: str) -> bool:
        return analysis in self._by_name

    @property
    def all(self) -> list[Failure]:
        """Every failure, in the order of time."""
        return list(self._by_name.values())

    @contextmanager
    def alone(self, analysis: str) -> Iterator[None]:
        """Let an analysis fail alone: an error within is noted, and the others continue."""
        try:
            yield
        except (Exception, SystemExit) as error:  # an analysis of another package may raise anything
            self.note(analysis, error)

    def note(self, analysis: str, error: BaseException) -> None:
        """Keep an error, and its traceback where nobody has foreseen it."""
        if analysis in self._by_name:
            return
        self.replace_earlier()
        self._by_name[analysis] = Failure.of(analysis, error)
        stored = _Stored(failures=self.all)
        write_whole(self._path, stored.model_dump_json(indent=1) + "\n")
        if isinstance(error, AsecalcError):
            self._foreseen[self._by_name[analysis].text] = error.as_kind(type(error))
        else:
            with writing(self._log), self._log.open("a", encoding="utf-8") as log:
                log.write(f"analysis {analysis}\n{''.join(traceback.format_exception(error))}\n")
            traceback.clear_frames(error.__traceback__)  # which may hold all frames of a trajectory

    def error(self) -> AsecalcError:
        """An error that names all failures, of their type if they have one of ours.

        Failures of one message are one error, with the attributes of theirs; see
        :func:`asecalc_ml.errors.together`.
        """
        kinds = {failure.error for failure in self.all}
        kind = getattr(errors, kinds.pop(), AnalysisError) if len(kinds) == 1 else AnalysisError
        unforeseen = {failure.text for failure in self.all if failure.place}
        found = []
        for message, of_message in _by_message(self.all).items():
            remedy = f"the traceback is in {self._log}" if message in unforeseen else None
            one = self._foreseen.get(message) or kind(f"{message};" if remedy else message, remedy=remedy)
            found.append(one.at(of_message))
        return together(kind, found)


def _by_message(failures: Sequence[Failure]) -> dict[str, str]:
    """Names by message: a damaged trajectory is one message for all that read it."""
    names: dict[str, list[str]] = {}
    for failure in failures:
        names.setdefault(failure.text, []).append(failure.analysis)
    return {
        text: f"{'analysis' if len(several) == 1 else 'analyses'} {', '.join(several)}"
        for text, several in names.items()
    }


def place_of(analysis: str, error: BaseException) -> str:
    """Where an error was raised: the last place in the package of the analysis, else the last one.

    Returns
    -------
    str
        Such as "my_analysis.py, line 12, in conclude".
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    package = _package_of(analysis)
    own = [place for place in frames if place[0].f_globals.get("__name__", "").partition(".")[0] == package]
    frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"


def _package_of(analysis: str) -> str | None:
    try:
        return plugins.get("analyses", analysis).__module__.partition(".")[0]
    except PluginError:
        return None
