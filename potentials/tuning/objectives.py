"""Objectives that the training itself gives: losses and errors of validation, and the speed of the model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from asecalc_ml import plugins
from asecalc_ml.config.options import parse_options
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError, TuningError
from asecalc_ml.objectives import ObjectiveOptions, TrainedModel

LOSS = "val_loss"


class Validation(ObjectiveOptions):
    """A loss or an error on the validation frames, at the epoch whose weights the model takes."""

    objective: Literal["validation"] = Field("validation", description="name of the objective")
    metric: str = Field(
        LOSS,
        description="column of metrics.csv: val_loss, or an error such as val_forces_mae_meV_A",
        examples=[LOSS, "val_forces_mae_meV_A"],
    )

    @property
    def label(self) -> str:
        return self.metric

    def check(self, metrics: Sequence[str]) -> None:
        check_metric("objectives.validation.metric", self.metric, metrics)

    def measure(self, trained: TrainedModel) -> float:
        """Value of the column at the best epoch."""
        return trained.metrics[self.metric]


class Speed(ObjectiveOptions):
    """Time of a call of the calculator for one structure; bounds keep models out that are fast and wrong."""

    needs_model: ClassVar[bool] = True

    objective: Literal["speed"] = Field("speed", description="name of the objective")
    structure: str | None = Field(
        None, description="structure, as for a protocol; empty for the first test frame of the training"
    )
    at_most: dict[str, float] = Field(
        {},
        description="largest errors of validation that a trial may have, by column of metrics.csv, as in "
        "{val_forces_mae_meV_A: 30}; a trial beyond has failed",
    )
    compile: Literal["never", "always"] = Field(
        "never", description="whether the model is compiled first, which takes up to a minute a trial"
    )
    calls: int = Field(50, ge=3, description="calls, of which the median time is taken")

    @property
    def label(self) -> str:
        return "call_ms"

    def check(self, metrics: Sequence[str]) -> None:
        for name in self.at_most:
            check_metric("objectives.speed.at_most", name, metrics)

    def measure(self, trained: TrainedModel) -> float:
        """Median time of a call, ms, with small displacements from call to call.

        Raises
        ------
        TuningError
            If an error is above its bound.
        """
        from asecalc_ml.calculators.ml_calculator import MLCalculator
        from asecalc_ml.store.golden import golden_atoms
        from asecalc_ml.store.model_file import read_card
        from asecalc_ml.structure.loading import load_structure

        for name, bound in self.at_most.items():
            if not trained.metrics[name] <= bound:
                raise TuningError(f"{name} is {trained.metrics[name]:.4g}, and may be {bound:g} at most")
        assert trained.model is not None  # needs_model
        golden = golden_atoms(read_card(trained.model).golden)
        atoms = golden if self.structure is None else load_structure(self.structure)
        atoms.calc = MLCalculator(trained.model, compile=self.compile)
        random, times = np.random.default_rng(trained.seed), []
        for _ in range(self.calls):
            atoms.positions += random.normal(scale=1e-3, size=atoms.positions.shape)
            began = time.perf_counter()
            atoms.calc.calculate(atoms, atoms.calc.implemented_properties[:2])
            times.append(time.perf_counter() - began)
        return 1000 * float(np.median(times))


def check_metric(option: str, name: str, metrics: Sequence[str]) -> None:
    """Refuse a column that metrics.csv of the training will not have.

    Raises
    ------
    ConfigError
    """
    if name not in metrics:
        raise unknown_name_error(
            ConfigError,
            f"{option} is {name!r}, which the training does not give",
            name,
            metrics,
            f"It gives {', '.join(metrics)}",
        )


def parse_objectives(given: Mapping[str, dict[str, Any] | None]) -> list[ObjectiveOptions]:
    """Objectives with their options, in their order.

    Raises
    ------
    ConfigError, PluginError
        If an objective or an option of it does not exist.
    """
    return [
        parse_options(options or {}, plugins.get("objectives", name), source=f"objective {name}")
        for name, options in given.items()
    ]
