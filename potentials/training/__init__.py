"""Training: from a YAML file, or the same options in Python, to a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions

if TYPE_CHECKING:
    from asecalc_ml.store.registry import Entry

__all__ = ["TrainOptions", "TrainingRequest", "train"]


def train(
    options: TrainOptions,
    resume: bool = False,
    replace: bool = False,
    quiet: bool = False,
    strict: bool = False,
    allow_different: bool = False,
    resume_or_start: bool = False,
) -> Entry:
    """Fit a model, test it on held-out frames, and register it.

    Parameters
    ----------
    options : TrainOptions
    resume : bool
        Go on after the last finished epoch in ``options.training_directory``.
    replace : bool
        Replace a registered model of the same name.
    quiet : bool
        Print nothing.
    strict : bool
        Refuse labels that contradict themselves, instead of warning.
    allow_different : bool
        Resume although the code of another party's architecture or dataset reader has changed.
    resume_or_start : bool
        Continue the training that is in the directory, or start it if there is none; return the model of one
        that is finished. For scripts that a queueing system begins again.

    Returns
    -------
    Entry
        The registered model: ``MLCalculator(entry.name)`` runs it. Of several processes that srun or torchrun
        has started, the first alone returns it, the others return None.

    Raises
    ------
    ModelError
        If the name is taken and ``replace`` is false; known before the training starts.
    TrainingError, DatasetError, ConfigError
        For data that cannot be read or split, options that do not fit together and, where ``strict`` is true,
        labels that contradict themselves.
    TrainingPausedError
        If the system asks the process to end (SIGTERM); the last step is stored.
    """
    from asecalc_ml.potentials.training.run import run

    request = TrainingRequest(
        options, resume, replace, quiet, strict, allow_different, resume_or_start=resume_or_start
    )
    return run(request)
