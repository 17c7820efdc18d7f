"""All analyses of a run, in one pass over its trajectory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml import plugins
from asecalc_ml.analysis.base import Analysis, Measurement, Result
from asecalc_ml.config import parse_options
from asecalc_ml.errors import AnalysisError, PluginError, RunError

if TYPE_CHECKING:
    from asecalc_ml.rundir import RunReader


def run_analyses(directory: str | Path, analyses: Mapping[str, Mapping | None] | None = None) -> list[Result]:
    """Analyse a run and write each result to its ``results/``.

    Parameters
    ----------
    directory : str or Path
        A run directory.
    analyses : mapping, optional
        Options by registered name. By default those that the run's protocol names, with their own defaults,
        as far as they find something to measure.

    Returns
    -------
    list of Result, in the order of the names

    Raises
    ------
    AnalysisError
        If an analysis that was asked for finds nothing to measure; the others' results are written first.
    PluginError
        If a name is unknown.
    """
    from asecalc_ml.rundir import RESULTS, RunReader

    run = RunReader(directory)
    results, problems = measure(run, chosen_analyses(analyses, default_analyses(run)))
    folder = Path(directory) / RESULTS
    _remove_earlier(folder)
    for result in results:
        result.write(folder)
    if problems and analyses is not None:
        raise AnalysisError("; ".join(f"analysis {name}: {error}" for name, error in problems.items()))
    return results


def default_analyses(run: RunReader) -> tuple[str, ...]:
    """Names that a run's protocol gives; none where that protocol is not installed."""
    try:
        return plugins.get("protocols", str(run.options.get("protocol"))).default_analyses
    except (PluginError, AttributeError):  # a protocol need not have any
        return ()


def chosen_analyses(
    analyses: Mapping[str, Mapping | None] | None, default: tuple[str, ...]
) -> dict[str, Analysis]:
    """Option models of analyses by registered name; of the default ones for ``None``."""
    if analyses is None:
        registered = plugins.names("analyses")
        analyses = {name: {} for name in default if name in registered}
    return {
        name: parse_options(options or {}, plugins.get("analyses", name), source=f"analysis {name}")
        for name, options in analyses.items()
    }


def measure(
    run: RunReader, analyses: Mapping[str, Analysis]
) -> tuple[list[Result], dict[str, AnalysisError]]:
    """Results of the analyses that found something, and the errors of those that did not.

    All that take frames in chunks share one pass over the trajectory.
    """
    problems: dict[str, AnalysisError] = {}
    working: dict[str, Measurement] = {}
    for name, analysis in analyses.items():
        if type(analysis).run is Analysis.run:
            with _noting(problems, name):
                working[name] = analysis.begin(run)
    if working and (lost := run.n_lost_frames):
        warnings.warn(lost_frames_text(run.n_frames, lost), stacklevel=2)
    for frames in run.frame_chunks() if working else ():
        for name, measurement in working.items():
            if name not in problems:
                with _noting(problems, name):
                    measurement.frames(frames)
    results = []
    for name, analysis in analyses.items():
        if name not in problems:
            with _noting(problems, name):
                results.append(working[name].conclude() if name in working else analysis.run(run))
    return results, problems


def lost_frames_text(n_frames: int, n_lost: int) -> str:
    """What to say of a trajectory whose end is missing."""
    return (
        f"the end of the trajectory is missing: {n_lost:,} of its {n_frames + n_lost:,} frames cannot be "
        f"read. The first {n_frames:,} are analysed; a run that was cut off goes on with `asecalc-md resume`"
    )


@contextmanager
def _noting(problems: dict[str, AnalysisError], name: str) -> Iterator[None]:
    """Let the other analyses go on when one finds nothing to measure."""
    try:
        yield
    except AnalysisError as error:
        problems[name] = error


def _remove_earlier(folder: Path) -> None:
    """Results of an earlier analysis would stand in the report beside a trajectory that has grown since."""
    for name in plugins.names("analyses"):
        for path in [folder / f"{name}.json", *folder.glob(f"{name}_*.csv")]:
            path.unlink(missing_ok=True)


def read_results(directory: str | Path) -> list[Result]:
    """Results that lie in a run directory, default analyses first, then by name.

    Raises
    ------
    RunError
        If a file is damaged, or was written by another version of its analysis.
    """
    from asecalc_ml.rundir import RESULTS, RunReader

    folder, default = Path(directory) / RESULTS, default_analyses(RunReader(directory))
    names = sorted(path.stem for path in folder.glob("*.json"))
    names.sort(key=lambda name: default.index(name) if name in default else len(default))
    registered = plugins.names("analyses")
    return [_read(folder / f"{name}.json", name) for name in names if name in registered]


def _read(path: Path, name: str) -> Result:
    try:
        return plugins.get("analyses", name).result.model_validate_json(path.read_bytes())
    except ValueError as error:  # pydantic's are
        remedy = f"`asecalc-md report {path.parent.parent}` writes it anew"
        raise RunError(f"{path} is damaged or of another version; {remedy}") from error
