"""The values of the next trial: random ones, or those that DeepHyper's Bayesian optimization proposes.

Values of trial k follow from the seed, k and the results that are known, and from nothing else. A search that
is resumed therefore proposes what it would have proposed without an interruption, and nothing is replayed.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.objectives.search_record import place_among
from asecalc_ml.potentials.tuning.options import SearchOptions
from asecalc_ml.potentials.tuning.space import Parameter

if TYPE_CHECKING:
    from deephyper.hpo import CBO, HpProblem

Values = dict[str, Any]

SURROGATES = {
    "extra-trees": "ET",
    "random-forest": "RF",
    "gaussian-process": "GP",
}

#: Of trees the uncertainty without that of the data, which is none for a seeded training.
ACQUISITIONS = {
    "upper-confidence-bound": "UCB",
    "expected-improvement": "EI",
    "probability-of-improvement": "PI",
}


def propose(
    options: SearchOptions,
    number: int,
    results: Sequence[tuple[Values, Sequence[float] | None]],
    running: Sequence[Values],
) -> Values:
    """Values of a trial.

    Parameters
    ----------
    options : SearchOptions
    number : int
        Number of the trial, from 0.
    results : sequence of tuple
        Values and objectives of each trial that has ended, in the order in which they ended. Objectives are
        to be maximized; None where the trial failed.
    running : sequence of dict
        Values of trials that have not ended.

    Returns
    -------
    dict
        Value of each parameter, plain numbers and texts.

    Notes
    -----
    A failed trial counts as the worst of those that succeeded. A running one counts as the best (the
    constant liar "cl_max" for maximization: Ginsbourger, Le Riche & Carraro 2010, whose CL-min minimizes), so
    that parallel trials differ. The surrogate is fitted to :func:`normal_scores`.
    """
    known = [objectives for _, objectives in results if objectives is not None]
    is_random = options.method == "random" or number < options.initial_trials or not known
    if is_random:
        return random_values(options, number)
    worst, best = np.min(known, axis=0), np.max(known, axis=0)
    told = [(values, worst if objectives is None else objectives) for values, objectives in results]
    told += [(values, best) for values in running]
    told_values, objectives = zip(*told, strict=True)
    scores = normal_scores(np.array(objectives, dtype=float))
    return _bayesian_values(options, number, list(zip(told_values, scores, strict=True)))


def normal_scores(objectives: np.ndarray) -> np.ndarray:
    """Quantiles of the normal distribution at the ranks of each objective, shape (n_trials, n_objectives).

    Only the order of trials counts: a training that blows up may have a loss of any size, next to which all
    others would look alike. Equal values share their mean rank. Of n values the k-th smallest has the score
    Φ⁻¹((k − ½)/n).
    """
    from scipy.stats import norm, rankdata

    return norm.ppf((rankdata(objectives, axis=0) - 0.5) / len(objectives))


def random_values(options: SearchOptions, number: int) -> Values:
    """Values of a trial of random search: the same for every method, so that searches share first trials."""
    space = _problem(options).space
    space.seed(int(_random(options, number).integers(2**31)))
    drawn = dict(space.sample_configuration())
    return _plain(options.space, drawn)


def _bayesian_values(
    options: SearchOptions, number: int, told: Sequence[tuple[Values, Sequence[float]]]
) -> Values:
    """Values that maximize the acquisition function of a surrogate fitted to all results."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():  # DeepHyper makes its log folder
        warnings.simplefilter("ignore")
        search = _search(options, number, folder)
        search._num_asked = number  # the exploration decays with the trials that were proposed
        search.tell([(_scaled(options.space, values), _objective(value)) for values, value in told])
        (proposed,) = search.ask(1)
    return _plain(options.space, proposed)


def _search(options: SearchOptions, number: int, folder: str) -> CBO:
    from deephyper.hpo import CBO

    logging.getLogger("deephyper").setLevel(logging.ERROR)
    surrogate, acquisition = SURROGATES[options.surrogate], ACQUISITIONS[options.acquisition]
    return CBO(
        _problem(options),
        random_state=int(_random(options, number).integers(2**31)),
        log_dir=folder,
        checkpoint_history_to_csv=False,
        surrogate_model=surrogate,
        acq_func=acquisition + ("d" if surrogate in ("ET", "RF") else ""),
        acq_optimizer="sampling",
        n_initial_points=1,
    )


def _objective(value: Sequence[float]) -> float | tuple[float, ...]:
    numbers = tuple(map(float, value))
    return numbers[0] if len(numbers) == 1 else numbers


def _random(options: SearchOptions, number: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, number])


def _problem(options: SearchOptions) -> HpProblem:
    """Space of a search as DeepHyper has it.

    Normal distributions are searched in the fraction of the distribution below a value: DeepHyper 0.13
    proposes values outside their bounds.
    """
    from ConfigSpace import CategoricalHyperparameter
    from deephyper.hpo import HpProblem

    problem = HpProblem()
    for name, parameter in options.space.items():
        if parameter.kind == "categorical":
            places = [str(place) for place in range(len(parameter.choices))]
            problem.add(CategoricalHyperparameter(name, places))
        elif parameter.kind == "normal":
            problem.add((0.0, 1.0), name)
        else:
            number = int if "integer" in parameter.kind else float
            prior = "log-uniform" if parameter.kind.startswith("log") else "uniform"
            problem.add((*map(number, parameter.bounds), prior), name)
    return problem


def _plain(space: Mapping[str, Parameter], proposed: Mapping[str, Any]) -> Values:
    """Values of parameters from those that DeepHyper proposes."""
    values: Values = {}
    for name, parameter in space.items():
        value = proposed[name]
        if parameter.kind == "categorical":
            values[name] = parameter.choices[int(value)]
        elif parameter.kind == "normal":
            values[name] = parameter.quantile(float(value))
        elif "integer" in parameter.kind:
            values[name] = int(value)
        else:
            values[name] = min(max(float(value), parameter.bounds[0]), parameter.bounds[1])
    return values


def _scaled(space: Mapping[str, Parameter], values: Values) -> dict[str, Any]:
    """Values as DeepHyper has them, the inverse of :func:`_plain`."""
    scaled: dict[str, Any] = {}
    for name, parameter in space.items():
        value = values[name]
        if parameter.kind == "categorical":
            scaled[name] = str(place_among(parameter.choices, value))
        elif parameter.kind == "normal":
            scaled[name] = parameter.fraction(value)
        else:
            scaled[name] = value
    return scaled


def is_number(value: Any) -> bool:
    """Whether an objective is a finite number, of which a surrogate can learn."""
    return isinstance(value, int | float) and math.isfinite(value)
