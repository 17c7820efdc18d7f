"""Bayesian optimization against random search: the searches of search_qm9.sh, compared.

python docs/experiments/search_qm9.py [--directory tuning] [--output search_qm9.json] [--figure FILE.png]

The loss is the mean squared error on 200 validation molecules over the variance of the training labels.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qm9_common import Record
from scipy.stats import t as student

from asecalc_ml.errors import AsecalcError
from asecalc_ml.potentials.tuning import SearchResults, read_search

TARGETS, RANDOM = ("homo", "zpve"), "random"
ARMS = {RANDOM: "random", "random-forest": "CBO, random forest", "gaussian-process": "CBO, Gaussian process"}


@dataclass(frozen=True)
class Repetition:
    """Losses of the searches of one repetition, by arm, in the order of the trials.

    Attributes
    ----------
    losses : dict of str to ndarray, shape (n_trials,)
        Infinite where the trial failed.
    """

    number: int
    losses: dict[str, np.ndarray]

    def best(self, arm: str, n_trials: int | None = None) -> float:
        """Lowest loss of the first trials, all by default."""
        return float(self.losses[arm][:n_trials].min())


def read_repetitions(directory: Path, target: str) -> list[Repetition]:
    """Repetitions whose searches have all ended.

    Raises
    ------
    SystemExit
        If searches of one repetition do not begin with the same trials.
    """
    repetitions = []
    for number in range(1000):
        try:
            searches = {arm: read_search(directory / f"search-{target}-{arm}-{number}") for arm in ARMS}
        except AsecalcError:  # not begun
            break
        if all(_has_ended(search) for search in searches.values()):
            _check_shared(searches, number)
            losses = {arm: _losses(search) for arm, search in searches.items()}
            repetitions.append(Repetition(number, losses))
    return repetitions


def _has_ended(search: SearchResults) -> bool:
    return sum(trial.has_ended for trial in search.trials) == search.options.search.trials


def _check_shared(searches: dict[str, SearchResults], number: int) -> None:
    """Refuse searches whose initial trials differ in values or losses."""
    n_shared = searches[RANDOM].options.search.initial_trials
    first = {
        arm: [(trial.values, trial.objectives) for trial in search.trials[:n_shared]]
        for arm, search in searches.items()
    }
    if any(trials != first[RANDOM] for trials in first.values()):
        raise SystemExit(f"repetition {number}: the first {n_shared} trials differ between searches")


def _losses(search: SearchResults) -> np.ndarray:
    return np.array([next(iter(trial.objectives.values()), np.inf) for trial in search.trials])


def losses_of(repetitions: list[Repetition], n_shared: int) -> list[dict[str, object]]:
    """A row for each arm: lowest loss and standard deviation of a search, as published, and quartiles.

    Quartiles are over the trials after the shared ones, of all repetitions.
    """
    rows = []
    for arm, label in ARMS.items():
        lowest = np.array([repetition.best(arm) for repetition in repetitions])
        every = [repetition.losses[arm] for repetition in repetitions]
        finite = [losses[np.isfinite(losses)] for losses in every]
        own = np.concatenate([losses[n_shared:] for losses in every])
        low, middle, high = np.quantile(own, (0.25, 0.5, 0.75), method="nearest")
        rows.append(
            {
                "search": label,
                "lowest loss: mean": lowest.mean(),
                "of repetitions: standard deviation": lowest.std(ddof=1),
                "standard deviation in a search (median)": float(np.median([one.std() for one in finite])),
                "own trials: lower quartile": low,
                "median": middle,
                "upper quartile": high,
                "failed": int(sum(np.isinf(losses).sum() for losses in every)),
            }
        )
    return rows


def ratio_to_random(repetitions: list[Repetition], arm: str) -> dict[str, object]:
    """Lowest loss of a search over that of random search, paired by repetition, with an interval of 95 %."""
    logs = np.log([repetition.best(arm) / repetition.best(RANDOM) for repetition in repetitions])
    width = student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, high = logs.mean() - width, logs.mean() + width
    verdict = "confirmed" if high < 0 else "not confirmed" if low > 0 else "undecided"
    return {
        "search": ARMS[arm],
        "lowest loss / that of random": float(np.exp(logs.mean())),
        "interval": f"{np.exp(low):.2f} to {np.exp(high):.2f}",
        "better in repetitions": f"{int((logs < 0).sum())} of {len(logs)}",
        "trials to random's best (median)": _trials_needed(repetitions, arm),
        "lower than random": verdict,
    }


def _trials_needed(repetitions: list[Repetition], arm: str) -> float:
    """Median number of trials after which a search is as good as random search at its end."""
    needed = []
    for repetition in repetitions:
        reached = np.flatnonzero(repetition.losses[arm] <= repetition.best(RANDOM))
        needed.append(reached[0] + 1 if len(reached) else np.inf)
    return float(np.median(needed))


def draw(all_repetitions: dict[str, list[Repetition]], path: Path) -> None:
    """Distributions of losses, and the median best so far with its quartiles, for each target."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2 * len(all_repetitions)), layout="constrained")
    axes = figure.subplots(len(all_repetitions), 2, squeeze=False)
    for (boxes, curves), (target, repetitions) in zip(axes, all_repetitions.items(), strict=True):
        every = [np.concatenate([one.losses[arm] for one in repetitions]) for arm in ARMS]
        boxes.boxplot([losses[np.isfinite(losses)] for losses in every], tick_labels=[*ARMS], widths=0.6)
        boxes.set(yscale="log", ylabel="loss", title=f"{target}: all trials")
        for arm, label in ARMS.items():
            best = np.minimum.accumulate([one.losses[arm] for one in repetitions], axis=1)
            low, middle, high = np.quantile(best, (0.25, 0.5, 0.75), axis=0)
            numbers = np.arange(1, len(middle) + 1)
            (line,) = curves.plot(numbers, middle, label=label)
            curves.fill_between(numbers, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        curves.set(yscale="log", xlabel="trials", ylabel="lowest loss", title=f"{target}: best so far")
        curves.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Compare the arms for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("tuning"))
    parser.add_argument("--output", type=Path, default=Path("search_qm9.json"))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    all_repetitions = {target: read_repetitions(arguments.directory, target) for target in TARGETS}
    all_repetitions = {target: found for target, found in all_repetitions.items() if len(found) > 1}
    if not all_repetitions:
        raise SystemExit(f"{arguments.directory} holds no two repetitions: run search_qm9.sh")
    record = Record("Bayesian optimization against random search", {"directory": str(arguments.directory)})
    for target, repetitions in all_repetitions.items():
        record.add(f"{target}: losses of {len(repetitions)} repetitions", losses_of(repetitions, n_shared=5))
        arms = [arm for arm in ARMS if arm != RANDOM]
        record.add(f"{target}: against random search", [ratio_to_random(repetitions, arm) for arm in arms])
    if arguments.figure:
        draw(all_repetitions, arguments.figure)
    record.write(arguments.output)


if __name__ == "__main__":
    main()
