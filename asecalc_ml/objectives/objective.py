"""Base class of the objectives of a hyperparameter search, and the trained model that they measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.config.options import Options


@dataclass(frozen=True)
class TrainedModel:
    """Result of a training, as objectives see it.

    Attributes
    ----------
    directory : Path
        Training directory, in which an objective may write a folder of its own name.
    metrics : mapping of str to float
        Losses and errors of the best epoch, columns of metrics.csv.
    model : Path or None
        Model file, ready for :class:`asecalc_ml.MLCalculator`; None if no objective needs it.
    seed, threads : int
        Seed of every random number, and CPU threads.
    """

    directory: Path
    metrics: Mapping[str, float]
    model: Path | None
    seed: int = 0
    threads: int = 1


class ObjectiveOptions(Options):
    """Base of all objectives.

    Attributes
    ----------
    direction : str
        "minimize" or "maximize".
    needs_model : bool
        True if it calculates with the model; the training then needs test frames, as every model file does.
    """

    direction: ClassVar[Literal["minimize", "maximize"]] = "minimize"
    needs_model: ClassVar[bool] = False

    objective: str = Field(description="name of the objective")

    @property
    def label(self) -> str:
        """Name of the number with its unit, the column of results.csv."""
        raise NotImplementedError

    def check(self, metrics: Sequence[str]) -> None:
        """Refuse, before the search starts, what a training with these columns of metrics cannot give.

        Raises
        ------
        ConfigError
        """

    def measure(self, trained: TrainedModel) -> float:
        """Value of the objective.

        Raises
        ------
        AsecalcError
            If the model has none; the trial has then failed.
        """
        raise NotImplementedError
