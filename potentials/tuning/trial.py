"""One trial in the process that carries it out: trained, or continued from its checkpoint, and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asecalc_ml import __version__
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AsecalcError, RunBusyError, TuningError
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.files.full_disk import FULL
from asecalc_ml.files.writing import write_whole
from asecalc_ml.jobs import DONE
from asecalc_ml.objectives import TrainedModel
from asecalc_ml.potentials.training.directory import LAST, METRICS
from asecalc_ml.potentials.training.metrics_file import read_metrics
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.potentials.tuning.early_stopping import best_so_far, rule_of
from asecalc_ml.potentials.tuning.objectives import parse_objectives
from asecalc_ml.potentials.tuning.options import SearchOptions
from asecalc_ml.potentials.tuning.proposals import is_number
from asecalc_ml.potentials.tuning.trials import STOPPED

LOCK, LEASE = ".trial.lock", ".lease"

#: State of a job that no trial can be blamed for: the search ends, and the trial is continued later.
REFUSED = "refused"


def lease(directory: Path, token: str) -> None:
    """Give a trial to a process; one that had it before ends at its next epoch."""
    write_whole(directory / LEASE, token)


def carry_out(message: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Carry out a trial.

    Parameters
    ----------
    message : dict
        ``directory`` of the trial, ``options`` of its training, ``search`` options, ``token`` of the lease,
        and ``version`` of the package that wants it.

    Returns
    -------
    state, text : str
    values : dict
        ``objectives`` by label, and ``numbers``: epochs and cpu_seconds.

    Raises
    ------
    AsecalcError
        If the trial fails.
    """
    if message["version"] != __version__:
        problem = f"a worker has version {__version__} of asecalc-ml, and the search {message['version']}"
        return REFUSED, f"{problem}: install the same version everywhere.", {}
    directory = Path(message["directory"])
    lock = FolderLock(directory / LOCK, "running this trial")
    try:
        return _train_and_measure(directory, message)
    except AsecalcError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in FULL:
            return REFUSED, str(error), {}
        raise
    finally:
        lock.close()


def _train_and_measure(directory: Path, message: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    from asecalc_ml.potentials.training.run import run_trial
    from asecalc_ml.potentials.training.task import monitor

    options = parse_options(message["options"], TrainOptions, source="options of this trial")
    search = parse_options(message["search"], SearchOptions, source="search")
    objectives = parse_objectives(search.objectives)
    ends_early = EarlyEnd(directory, search, monitor(options.loss), message["token"])
    request = TrainingRequest(
        options,
        resume=(directory / LAST).is_file(),
        replace=True,
        quiet=True,
        is_trial=True,
        ends_early=ends_early,
    )
    model = run_trial(request, saves_model=any(objective.needs_model for objective in objectives))
    metrics = read_metrics(directory / METRICS)
    trained = TrainedModel(
        directory.absolute(),
        {name: best_so_far(values, metrics[monitor(options.loss)])[-1] for name, values in metrics.items()},
        model.absolute() if model else None,
        options.seed,
        options.threads,
    )
    measured = {objective.label: objective.measure(trained) for objective in objectives}
    for label, value in measured.items():
        if not is_number(value):
            raise TuningError(f"{label} is {value}, which is no number to compare", name=label, value=value)
    numbers = {"epochs": len(metrics["epoch"]), "cpu_seconds": metrics["cpu_s"][-1]}
    state = STOPPED if ends_early.has_ended else DONE
    text = f"by {search.early_stopping} after epoch {len(metrics['epoch'])}" if ends_early.has_ended else ""
    return state, text, {"objectives": measured, "numbers": numbers}


class EarlyEnd:
    """Asked before each epoch of a trial whether it ends there.

    Parameters
    ----------
    directory : Path
        Folder of the trial, among those of the others.
    options : SearchOptions
    monitored : str
        Column of metrics.csv that chooses the best epoch.
    token : str
        Of the lease that this process has.

    Attributes
    ----------
    has_ended : bool
        True once the trial is ended.
    """

    def __init__(self, directory: Path, options: SearchOptions, monitored: str, token: str):
        self._directory, self._monitored, self._token = directory, monitored, token
        self._rule, self.has_ended = rule_of(options), False
        self._metric = getattr(parse_objectives(options.objectives)[0], "metric", None)

    def __call__(self, n_epochs: int) -> bool:
        """Whether the trial ends after so many epochs.

        Raises
        ------
        RunBusyError
            If another process continues the trial.
        """
        if (self._directory / LEASE).read_text() != self._token:
            raise RunBusyError(f"{self._directory}: another process continues this trial")
        if self._rule is None or n_epochs == 0:
            return False
        others = [self._curve(path) for path in self._folders() if path != self._directory]
        self.has_ended = self._rule(self._curve(self._directory), others)
        return self.has_ended

    def _folders(self) -> list[Path]:
        return sorted(path for path in self._directory.parent.iterdir() if path.is_dir())

    def _curve(self, directory: Path) -> list[float]:
        columns = read_metrics(directory / METRICS)
        if not self._metric or self._metric not in columns:
            return []
        return best_so_far(columns[self._metric], columns[self._monitored])
