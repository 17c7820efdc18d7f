"""Records of hyperparameter searches with trials drawn at random."""

from collections.abc import Callable

import numpy as np

from asecalc_ml.objectives import SearchedObjective, SearchRecord, TrialRecord
from asecalc_ml.potentials.tuning.space import Parameter

LOSS = SearchedObjective(label="val_forces_mae_meV_A", direction="minimize")
SPEED = SearchedObjective(label="call_ms", direction="minimize")

#: Nine parameters of every kind, with long names of options and of categories.
SPACE = {
    "optimizer.learning_rate": Parameter(log_uniform=[1e-5, 1e-1]),
    "optimizer.algorithm": Parameter(categorical=["adamw", "adam", "sgd", "lamb", "yogi"]),
    "batch_size": Parameter(integer=[4, 64]),
    "optimizer.weight_decay": Parameter(log_uniform=[1e-7, 1e-2]),
    "optimizer.gradient_clip": Parameter(
        normal={"mean": 0.5, "standard_deviation": 0.5, "low": 0.0, "high": 2.0}
    ),
    "model.architecture": Parameter(
        categorical=[
            "equivariant-transformer",
            "physnet",
            "mpnn-transformer",
            "a-network-with-a-very-long-name",
        ]
    ),
    "accumulate_batches": Parameter(log_integer=[1, 32]),
    "mixed_precision": Parameter(categorical=[True, False]),
    "loss.forces_weight_of_the_training": Parameter(uniform=[0.0, 1.0]),
}


def drawn(parameter: Parameter, fraction: float):
    """Value of a parameter with a fraction of its distribution below it."""
    if parameter.choices:
        return parameter.choices[int(fraction * len(parameter.choices))]
    if parameter.normal is not None:
        return parameter.quantile(fraction)
    low, high = parameter.bounds
    value = low * (high / low) ** fraction if "log" in parameter.kind else low + (high - low) * fraction
    return round(value) if "integer" in parameter.kind else value


def trial(number: int, values: dict, space: dict[str, Parameter] = SPACE, **fields) -> TrialRecord:
    fractions = {name: parameter.fraction(values[name]) for name, parameter in space.items()}
    given = {"state": "done", "ended_after_seconds": 60.0 * number, "cpu_seconds": 10.0, **fields}
    return TrialRecord(number=number, values=values, fractions=fractions, **given)


def search(
    trials: list[TrialRecord],
    space: dict[str, Parameter] = SPACE,
    objectives: tuple[SearchedObjective, ...] = (LOSS,),
) -> SearchRecord:
    return SearchRecord(
        name="ethanol-search",
        version="0.2.0",
        settings={"method": "bayesian", "surrogate": "gaussian-process", "seed": 0, "budget in hours": None},
        seconds=60.0 * (len(trials) + 1),
        parameters=[parameter.record(name) for name, parameter in space.items()],
        objectives=list(objectives),
        trials=trials,
    )


def mixed_search(n_trials: int = 30, seed: int = 0, two_objectives: bool = False) -> SearchRecord:
    """A search in which trials fail, are stopped, blow up and run; its learning rate decides."""
    random, trials = np.random.default_rng(seed), []
    for number in range(1, n_trials + 1):
        values = {name: drawn(parameter, random.random()) for name, parameter in SPACE.items()}
        rate = values["optimizer.learning_rate"]
        loss = 2.0 * 10 ** (1.2 * abs(np.log10(rate) + 3)) + random.normal() ** 2
        fields: dict = {"objectives": {LOSS.label: 3e17 if number == 5 else float(loss)}}
        if two_objectives:
            fields["objectives"][SPEED.label] = float(1 + values["batch_size"] / 20 + random.random())
        elif random.random() < 0.2:
            fields |= {"state": "stopped", "reason": f"by asha after epoch {number % 3 + 1}"}
        if rate > 0.02:
            reason = f"the loss is not finite in epoch {number % 4 + 1}"
            fields = {"state": "failed", "reason": reason, "cpu_seconds": None}
        if number > n_trials - 2:
            fields = {"state": "running", "cpu_seconds": None, "ended_after_seconds": None}
        trials.append(trial(number, values, **fields))
    return search(trials, objectives=(LOSS, SPEED) if two_objectives else (LOSS,))


def function_search(
    function: Callable[[np.ndarray], np.ndarray], n_parameters: int, n_trials: int, seed: int
) -> SearchRecord:
    """A search of the unit cube at random points; its objective is a function of arrays (n_parameters, n)."""
    points = np.random.default_rng(seed).random((n_trials, n_parameters))
    space = {f"x{k + 1}": Parameter(uniform=[0.0, 1.0]) for k in range(n_parameters)}
    trials = [
        trial(
            number,
            dict(zip(space, map(float, point), strict=True)),
            space,
            objectives={LOSS.label: float(value)},
        )
        for number, (point, value) in enumerate(zip(points, function(points.T), strict=True), 1)
    ]
    return search(trials, space)
