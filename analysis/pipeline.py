"""All analyses of a run, in one pass over its trajectory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asecalc_ml import plugins
from asecalc_ml.analysis.base import CHECKSUM, Analysis, Measurement, Result
from asecalc_ml.analysis.failures import Failures
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError, PluginError, RunError
from asecalc_ml.files.reading import described
from asecalc_ml.runs import RESULTS, RunReader, open_run


def run_analyses(
    run: RunReader | str | Path, analyses: Mapping[str, Mapping | None] | None = None
) -> list[Result]:
    """Analyse a run and write each result to its ``results/``.

    Each analysis fails alone: the results of the others are written, and the failures beside them.

    Parameters
    ----------
    run : RunReader, str or Path
        A run, or its directory.
    analyses : mapping, optional
        Options by registered name. By default those that the run's protocol names, with their own defaults,
        as far as they find something to measure.

    Returns
    -------
    list of Result, in the order of the names

    Raises
    ------
    AnalysisError
        If an analysis that was asked for finds nothing to measure, or any raises an error that nobody has
        foreseen; the others' results are written first.
    AsecalcError
        If all failures are of one kind, such as a PluginError for names that are unknown.
    """
    results, failures = carry_out(run, analyses)
    if failures.all:
        raise failures.error()
    return results


def carry_out(
    run: str | Path | RunReader, analyses: Mapping[str, Mapping | None] | None = None
) -> tuple[list[Result], Failures]:
    """Do what :func:`run_analyses` does, and return the failures in place of raising them."""
    reader: RunReader = open_run(run)
    folder = reader.directory / RESULTS
    is_asked = analyses is not None
    wanted = dict.fromkeys(default_analyses(reader)) if analyses is None else analyses
    failures, chosen = Failures(reader.directory, is_new=True), {}
    for name, options in wanted.items():
        with failures.alone(name):
            chosen[name] = parse_options(options or {}, plugins.get("analyses", name), f"analysis {name}")
    results, problems = measure(reader, chosen, catches=(Exception, SystemExit))
    for name, error in problems.items():
        if is_asked or not isinstance(error, AnalysisError):  # a default one need not find anything
            failures.note(name, error)
    _remove_earlier(folder)
    failures.replace_earlier()
    written = []
    for name, result in zip((name for name in chosen if name not in problems), results, strict=True):
        with failures.alone(name):
            _check_name(name, result)
            result.write(folder)
            _check_read_back(folder / f"{name}.json", name)
            written.append(result)
    return written, failures


def default_analyses(run: RunReader) -> tuple[str, ...]:
    """Names that a run's protocol gives; none without that protocol."""
    try:
        return plugins.get("protocols", str(run.read_options().get("protocol"))).default_analyses
    except (PluginError, AttributeError):  # a protocol need not have any
        return ()


def _check_name(name: str, result: Any) -> None:
    """Refuse a result that could not be found again, with what its author has to do."""
    kind = type(result).__name__
    if not isinstance(result, Result):
        raise PluginError(
            f"it returned a {kind}, which is not a Result of asecalc_ml.analysis.base",
            value=kind,
            allowed="Result",
        )
    if result.analysis != name:
        raise PluginError(
            f"its result names the analysis {result.analysis!r}, and it is registered as {name!r}",
            name="analysis",
            value=result.analysis,
            allowed=[name],
            remedy=f'write analysis: Literal["{name}"] = "{name}" in class {kind}',
        )


def _check_read_back(path: Path, name: str) -> None:
    """Refuse a result that the report could not read, with what its author has to do."""
    try:
        plugins.get("analyses", name).result.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise PluginError(
            f"its result cannot be read back from {path} ({described(error)})",
            name=str(path),
            remedy="`result` of the analysis has to be the class of what it returns, and its fields numbers, "
            "text, lists and records",
        ) from error


def measure(
    run: RunReader,
    analyses: Mapping[str, Analysis],
    catches: type[BaseException] | tuple[type[BaseException], ...] = AnalysisError,
) -> tuple[list[Result], dict[str, BaseException]]:
    """Results of the analyses that found something, and the errors of those that did not.

    All that take frames in chunks share one pass over the trajectory.

    Parameters
    ----------
    run : RunReader
    analyses : mapping
        By name.
    catches : type of exception, or tuple of them
        Errors that leave the other analyses alone; others are raised.
    """
    problems: dict[str, BaseException] = {}
    working: dict[str, Measurement] = {}
    for name, analysis in analyses.items():
        if _takes_frames(analysis):
            with _noting(problems, name, catches):
                working[name] = analysis.begin(run)
    _read_frames(run, working, problems, catches)
    results = []
    for name, analysis in analyses.items():
        if name not in problems:
            with _noting(problems, name, catches):
                results.append(working[name].conclude() if _takes_frames(analysis) else analysis.run(run))
    return results, problems


def _takes_frames(analysis: Analysis) -> bool:
    """Whether it has a measurement that takes frames in chunks, and no run of its own."""
    return type(analysis).run is Analysis.run


def _read_frames(
    run: RunReader,
    working: dict[str, Measurement],
    problems: dict[str, BaseException],
    catches: type[BaseException] | tuple[type[BaseException], ...],
) -> None:
    """Hand all frames to the measurements; one that fails is dropped with all that it holds."""
    try:
        if working and (lost := run.n_lost_frames):
            warnings.warn(lost_frames_text(run.n_frames, lost), stacklevel=3)
        for frames in run.frame_chunks() if working else ():
            for name in list(working):
                with _noting(problems, name, catches):
                    working[name].frames(frames)
                if name in problems:
                    del working[name]
    except catches as error:  # the trajectory itself cannot be read
        problems |= dict.fromkeys(working, error)


def lost_frames_text(n_frames: int, n_lost: int) -> str:
    """What to say of a trajectory whose end is missing."""
    return (
        f"the end of the trajectory is missing: {n_lost:,} of its {n_frames + n_lost:,} frames cannot be "
        f"read. The first {n_frames:,} are analysed; a run that was cut off goes on with `asecalc-md resume`"
    )


@contextmanager
def _noting(
    problems: dict[str, BaseException],
    name: str,
    catches: type[BaseException] | tuple[type[BaseException], ...],
) -> Iterator[None]:
    """Let the other analyses go on when one fails."""
    try:
        yield
    except catches as error:
        problems[name] = error


def _remove_earlier(folder: Path) -> None:
    """Results of an earlier analysis would stand in the report beside a trajectory that has grown since."""
    for name in plugins.names("analyses"):
        for path in [folder / f"{name}.json", *folder.glob(f"{name}_*.csv")]:
            path.unlink(missing_ok=True)


def read_results(run: RunReader | str | Path) -> list[Result]:
    """Results of a run that lie in its directory, default analyses first, then by name.

    Raises
    ------
    RunError
        If a file is damaged, or was written by another version of its analysis.
    """
    registered = plugins.names("analyses")
    return [_read(path, path.stem) for path in _files(run) if path.stem in registered]


def results_alone(run: str | Path | RunReader, failures: Failures) -> list[Result]:
    """Results as :func:`read_results` gives them; what cannot be read is noted as a failure."""
    results, registered = [], plugins.names("analyses")
    for path in _files(run):
        if path.stem in registered:
            with failures.alone(path.stem):
                results.append(_read(path, path.stem))
    return results


def not_installed(run: str | Path | RunReader) -> list[str]:
    """Names of the analyses that have left a result and are not installed any more."""
    registered = plugins.names("analyses")
    return [path.stem for path in _files(run) if path.stem not in registered and _is_result(path)]


def _files(run: str | Path | RunReader) -> list[Path]:
    reader: RunReader = open_run(run)
    default = default_analyses(reader)
    paths = sorted((reader.directory / RESULTS).glob("*.json"))
    return sorted(paths, key=lambda path: default.index(path.stem) if path.stem in default else len(default))


def _read(path: Path, name: str) -> Result:
    remedy = f"`asecalc-md report {path.parent.parent}` writes it anew"
    return read_result(path, plugins.get("analyses", name).result, remedy)


def read_result(path: Path, kind: type[Result], remedy: str) -> Result:
    """Read a result's JSON file.

    Raises
    ------
    RunError
        If the file is damaged or of another version; the message ends with ``remedy``.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValueError as error:  # pydantic's are
        raise RunError(
            f"{path} is damaged or of another version ({described(error)});", name=str(path), remedy=remedy
        ) from error


def _is_result(path: Path) -> bool:
    """Whether a JSON file was written by :meth:`Result.write` for the analysis that its name tells."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and CHECKSUM in content and content.get("analysis") == path.stem
