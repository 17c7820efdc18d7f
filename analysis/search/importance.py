"""Importance of the parameters of a search: Sobol indices of a surrogate, with what chance alone gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Record, Verdict
from asecalc_ml.outcome import Outcome

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

    from asecalc_ml.objectives import SearchedObjective, SearchRecord

LEAST_TRIALS = 10
LEVEL = 0.95  # of intervals, and of what chance does not reach
N_TREES, N_TREES_PREDICTION = 16, 32
LEAST_IN_LEAF = 2
N_RESAMPLED, N_SHUFFLED = 40, 100
N_POINTS = 128  # of a Sobol sequence: a power of two
N_PARTS = 5  # of the cross-validation


class ParameterImportance(Record):
    """Importance of one parameter for one objective."""

    name: str
    total: float = Field(description="total Sobol index: share of the variance that it takes part in")
    low: float = Field(description="lower bound of the interval of the total index")
    high: float = Field(description="upper bound of the interval of the total index")
    first_order: float = Field(description="first-order Sobol index: share of the variance due to it alone")
    explained: float = Field(description="share of the variance of all ranks that it takes part in")
    chance: float = Field(description="bound: fits to shuffled ranks exceed it in 5 % of cases")
    status: Outcome = Field(description="whether `explained` exceeds chance")


class ObjectiveImportance(Record):
    """Importance of all parameters for one objective; none where the trials do not tell it."""

    objective: str
    status: Outcome = Field(description="whether the parameters predict the ranks of trials")
    text: str = Field(description="the numbers behind it")
    n_trials: int
    rank_correlation: float | None = Field(
        None, description="Spearman correlation of ranks with predictions for trials that were left out"
    )
    parameters: list[ParameterImportance] = Field([], description="most important first")

    @property
    def verdict(self) -> Verdict:
        """The check whether there is anything to learn importances from."""
        check = f"the parameters explain {self.objective}"
        return Verdict(check=check, status=self.status, text=self.text)


def parameter_importance(record: SearchRecord, objective: SearchedObjective) -> ObjectiveImportance:
    """Sobol indices of the parameters of a search.

    Parameters
    ----------
    record : SearchRecord
    objective : SearchedObjective
        One of its objectives.

    Returns
    -------
    ObjectiveImportance
        The same for the same trials.

    Notes
    -----
    Extremely randomized trees are fitted to the ranks of the objective as a function of the fractions of the
    parameters' distributions that lie below the values; failed trials share the worst rank.
    Sobol indices of the trees (first order: fANOVA, Hutter, Hoos & Leyton-Brown 2014; total: Homma & Saltelli
    1996; estimators: Saltelli et al. 2010) are integrals over the whole search space.
    The interval is that of fits to trials drawn with replacement.
    Chance is what shuffled ranks give: of the shares of variance, each in units of its mean over shuffles,
    the largest among the parameters is taken, and its 95 % quantile is the bound. The means differ among
    parameters, since trees split numbers and categories differently.
    """
    ended, names = record.ended, [parameter.name for parameter in record.parameters]
    basis: dict[str, Any] = {"objective": objective.label, "n_trials": len(ended)}
    ranks = objective_ranks(record, objective)
    if why := _not_applicable(record, ranks):
        return ObjectiveImportance(status="not applicable", text=why, **basis)
    if len(ended) < LEAST_TRIALS:
        text = f"{len(ended)} of the {LEAST_TRIALS} trials that are needed have ended"
        return ObjectiveImportance(status="undecided", text=text, **basis)
    n_choices = [len(parameter.choices) for parameter in record.parameters]
    fractions = np.array([[trial.fractions[name] for name in names] for trial in ended])
    columns = with_categories(fractions, n_choices)
    correlation, p_value = prediction_skill(columns, ranks)
    skill = (
        f"Spearman correlation {correlation:.2f} between the ranks of {len(ended)} trials and their "
        f"predictions from the other trials (p = {p_value:.2g}, one-sided)"
    )
    basis["rank_correlation"] = correlation
    if p_value >= 1 - LEVEL:
        return ObjectiveImportance(status="undecided", text=f"{skill}: no more than chance", **basis)
    parameters = _importances(names, n_choices, columns, ranks)
    return ObjectiveImportance(status="passed", text=skill, parameters=parameters, **basis)


def _not_applicable(record: SearchRecord, ranks: np.ndarray) -> str:
    if len(record.parameters) == 1:
        return f"{record.parameters[0].name} is the only parameter: all variance is its own"
    if not record.measured:
        return "no trial has a result"
    return "all trials have the same value" if len(ranks) > 1 and len(np.unique(ranks)) == 1 else ""


def objective_ranks(record: SearchRecord, objective: SearchedObjective) -> np.ndarray:
    """Ranks of the trials that have ended, 1 the worst; shape (n_ended,). Failed trials share the worst."""
    from scipy.stats import rankdata

    from asecalc_ml.objectives.search_record import sign

    label, direction = objective.label, sign(objective)
    scores = [direction * trial.objectives[label] if trial.objectives else -np.inf for trial in record.ended]
    return rankdata(scores)


def with_categories(fractions: np.ndarray, n_choices: Sequence[int]) -> np.ndarray:
    """Fractions as trees take them: all that stand for the same category are equal.

    Parameters
    ----------
    fractions : array, shape (n_points, n_parameters)
    n_choices : sequence of int
        Number of categories of each parameter; 0 of a number.
    """
    n, columns = np.array(n_choices), fractions.copy()
    categories = n > 0
    n = n[categories]
    columns[:, categories] = (np.minimum(np.floor(fractions[:, categories] * n), n - 1) + 0.5) / n
    return columns.astype(np.float32)


def make_surrogate(n_trees: int, seed: int = 0) -> ExtraTreesRegressor:
    """Extremely randomized trees (Geurts, Ernst & Wehenkel 2006)."""
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(
        n_trees, min_samples_leaf=LEAST_IN_LEAF, max_features=2 / 3, random_state=seed, n_jobs=1
    )


def prediction_skill(columns: np.ndarray, ranks: np.ndarray) -> tuple[float, float]:
    """Spearman correlation of ranks with cross-validated predictions, and its one-sided p value."""
    from scipy.stats import spearmanr
    from sklearn.model_selection import KFold, cross_val_predict

    parts = KFold(N_PARTS, shuffle=True, random_state=0)
    predicted = cross_val_predict(make_surrogate(N_TREES_PREDICTION), columns, ranks, cv=parts)
    if np.ptp(predicted) == 0:
        return 0.0, 1.0
    result = spearmanr(ranks, predicted, alternative="greater")
    return float(result.statistic), float(result.pvalue)


def _importances(
    names: list[str], n_choices: list[int], columns: np.ndarray, ranks: np.ndarray
) -> list[ParameterImportance]:
    """Importances of the parameters, the largest first."""
    random = np.random.default_rng(0)

    # fits to the trials, to trials drawn with replacement (as weights), and to shuffled ranks
    ones = np.ones(len(ranks))
    resampled = random.multinomial(len(ranks), ones / len(ranks), N_RESAMPLED).astype(float)
    data = [(ranks, ones), *((ranks, weights) for weights in resampled)]
    data += [(random.permutation(ranks), ones) for _ in range(N_SHUFFLED)]
    fits = [
        make_surrogate(N_TREES, seed).fit(columns, target, weights)
        for seed, (target, weights) in enumerate(data)
    ]
    first_order, total, variance = sobol_indices_of(fits, n_choices)

    # interval of the total index T, and shares T V[surrogate] / V[ranks] with those of shuffled ranks
    last = 1 + N_RESAMPLED
    low, high = np.quantile(total[1:last], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    explained = total * variance[:, None] / np.var(ranks)
    chance = by_chance(explained[last:])
    parameters = [
        ParameterImportance(
            name=name,
            total=total[0, k],
            low=min(low[k], total[0, k]),
            high=max(high[k], total[0, k]),
            first_order=first_order[0, k],
            explained=explained[0, k],
            chance=chance[k],
            status="passed" if explained[0, k] > chance[k] else "undecided",
        )
        for k, name in enumerate(names)
    ]
    return sorted(parameters, key=lambda one: -one.total)


def by_chance(shares: np.ndarray) -> np.ndarray:
    """Share of variance for each parameter that no parameter exceeds in 95 % of shuffles.

    Parameters
    ----------
    shares : array, shape (n_shuffles, n_parameters)
    """
    mean = shares.mean(axis=0)
    relative = shares / np.where(mean > 0, mean, 1.0)
    return mean * np.quantile(relative.max(axis=1), LEVEL)


def sobol_indices_of(
    fits: list[ExtraTreesRegressor], n_choices: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First-order and total Sobol indices over the unit cube, and variances.

    Returns
    -------
    first_order, total : array, shape (n_fits, n_parameters)
        In [0, 1]; 0 for a constant.
    variance : array, shape (n_fits,)
    """
    from scipy.stats import qmc, sobol_indices

    # two independent samples A and B of the cube, and A with coordinate i of B for each i
    d = len(n_choices)
    a, b = np.split(qmc.Sobol(2 * d, seed=0).random(N_POINTS), 2, axis=1)
    mixed = np.repeat(a[None], d, axis=0)
    mixed[np.arange(d), :, np.arange(d)] = b.T
    points = with_categories(np.concatenate([a, b, *mixed]), n_choices)
    values = np.array([fit.predict(points) for fit in fits])  # (n_fits, (d + 2) n_points)
    of_a, of_b, of_mixed = np.split(values, [N_POINTS, 2 * N_POINTS], axis=1)
    samples = {
        "f_A": of_a,
        "f_B": of_b,
        "f_AB": of_mixed.reshape(len(fits), d, N_POINTS).swapaxes(0, 1),
    }
    with np.errstate(invalid="ignore", divide="ignore"):  # a constant has no variance to divide by
        indices = sobol_indices(func=samples, n=N_POINTS)
    first_order, total = (
        np.clip(np.nan_to_num(np.reshape(index, (len(fits), d))), 0.0, 1.0)
        for index in (indices.first_order, indices.total_order)
    )
    return first_order, total, values[:, : 2 * N_POINTS].var(axis=1)
