"""Options of a hyperparameter search: those of a training, and a section ``search``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml.config.nested_options import put_all
from asecalc_ml.config.options import Options
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.tuning.space import Parameter
from asecalc_ml.tracking.spec import grouped

#: Options of a training that the search sets itself.
SET_BY_SEARCH = ("name", "directory", "tracking")


class SearchOptions(Options):
    """What is searched, how, and for how long."""

    space: dict[str, Parameter] = Field(
        description="options of the training that vary, each with the distribution of its values; a dot "
        "leads into sections",
        examples=[{"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}],
    )
    objectives: dict[str, dict[str, Any] | None] = Field(
        {"validation": None},
        description="what the search improves, by name, each with its options; two give a Pareto front",
    )
    method: Literal["bayesian", "random"] = Field(
        "bayesian", description="Bayesian optimization by DeepHyper's CBO, or random values as its baseline"
    )
    surrogate: Literal["gaussian-process", "extra-trees", "random-forest"] = Field(
        "gaussian-process", description="model of the objective as a function of the parameters"
    )
    acquisition: Literal["upper-confidence-bound", "expected-improvement", "probability-of-improvement"] = (
        Field("upper-confidence-bound", description="function of the surrogate that the next trial maximizes")
    )
    initial_trials: int = Field(
        5, ge=1, description="random trials before the surrogate is fitted; the first of a random search too"
    )
    early_stopping: Literal["none", "asha", "median"] = Field(
        "none",
        description="asha ends trials that are not among the best at epochs that grow by reduction_factor, "
        "median those that are worse than half of the others at the same epoch",
    )
    min_epochs: int = Field(1, ge=1, description="epochs before early stopping may end a trial")
    reduction_factor: int = Field(3, ge=2, description="asha: of so many trials one continues")
    min_competing: int = Field(5, ge=2, description="median: trials that must have come as far")
    trials: int | None = Field(None, ge=1, description="number of trials; empty for no limit but hours")
    hours: float | None = Field(
        None, gt=0, description="time after which no trial begins, over all starts of the search"
    )
    seed: int = Field(0, ge=0, description="seed of the proposed values")
    executor: Literal["local", "ray", "mpi"] = Field(
        "local", description="processes of this machine, of a Ray cluster (extra [distributed]), or of MPI"
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="trials at the same time; empty: one for each GPU, without GPUs one for each `threads` "
        "cores; with `devices` of the training, fewer by that factor",
    )
    ray_address: str | None = Field(
        None, description="address of the Ray cluster; by default $RAY_ADDRESS, or a new one of this machine"
    )
    retries: int = Field(2, ge=0, description="how often a trial whose process was lost is continued")
    directory: Path | None = Field(None, description="folder of the search; default tuning/NAME")

    @field_validator("space")
    @classmethod
    def _has_parameters(cls, space: dict[str, Parameter]) -> dict[str, Parameter]:
        if not space:
            raise ValueError("it is empty: name options of the training with distributions of their values")
        for name in set(space) & set(SET_BY_SEARCH):
            raise ValueError(f"the search itself sets {name}: leave it out")
        return space

    @field_validator("objectives")
    @classmethod
    def _one_or_two(cls, objectives: dict[str, Any]) -> dict[str, Any]:
        if len(objectives) not in (1, 2):
            raise ValueError(f"there are {len(objectives)} objectives, and should be one or two")
        return objectives

    @model_validator(mode="after")
    def _fits_together(self) -> SearchOptions:
        if self.trials is None and self.hours is None:
            raise ValueError("it has no end: give trials, hours, or both")
        if self.early_stopping != "none" and list(self.objectives) != ["validation"]:
            raise ValueError(
                f"early_stopping {self.early_stopping} compares one objective, validation, epoch by epoch, "
                f"and the objectives are {', '.join(self.objectives)}: leave out early_stopping"
            )
        return self


class TuneOptions(TrainOptions):
    """A hyperparameter search: the options of a training, and what is searched among them."""

    search: SearchOptions = Field(description="space, objectives, method and budget of the search")

    @property
    def search_directory(self) -> Path:
        """Folder of the search."""
        return self.search.directory or Path("tuning") / self.name

    @property
    def base(self) -> dict[str, Any]:
        """Options of the training as they were given, as plain values."""
        given = self.model_dump(mode="json", exclude_unset=True, exclude={"search"})
        return given | {"model": copy.deepcopy(self.model)}

    def training(self, values: dict[str, Any]) -> dict[str, Any]:
        """Options of a training with a trial's values, as plain values that are not yet checked.

        Parameters
        ----------
        values : dict
            Value of each parameter, by the option's dotted name.

        Raises
        ------
        ConfigError
            If a section on the way to an option holds a value that has no options.
        """
        options = self.base
        put_all(options, values, "search.space")
        return options

    def trial(self, values: dict[str, Any], directory: Path) -> dict[str, Any]:
        """Options of a trial: those of :meth:`training`, a directory, and trackers that group trials."""
        options = self.training(values) | {"directory": str(directory)}
        if self.tracking:
            options["tracking"] = grouped(self.base["tracking"], self.name)
        return options

    @model_validator(mode="after")
    def _directory_is_of_the_search(self) -> TuneOptions:
        if self.directory is not None:
            raise ValueError("directory is that of a training: give search.directory")
        return self

    @model_validator(mode="after")
    def _trials_have_one_machine(self) -> TuneOptions:
        if self.num_nodes > 1 or "num_nodes" in self.search.space:
            raise ValueError("a trial runs on one machine: leave out num_nodes")
        return self
