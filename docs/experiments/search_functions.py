"""How near searches come to the minimum of test functions: random search, and each surrogate.

python docs/experiments/search_functions.py [--trials 25] [--seeds 12] [--output search_functions.json]

The functions have a learning rate, a batch size, a category and a weight decay, and their minimum is 0.
A rate beyond 0.05 fails. "smooth" is quadratic in the logarithms; "steep" grows exponentially with it, as the
loss of a training does that blows up; "noisy" has Gaussian noise of 0.2 in the values that the search sees.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from qm9_common import Record

from asecalc_ml.potentials.tuning.options import SearchOptions
from asecalc_ml.potentials.tuning.proposals import Values, propose

SPACE = {
    "rate": {"log_uniform": [1e-5, 1e-1]},
    "size": {"log_integer": [1, 256]},
    "kind": {"categorical": ["a", "b", "c"]},
    "decay": {"uniform": [0.0, 1.0]},
}
NOISE = 0.2


def smooth(values: Values) -> float:
    """Squares of the distances from the best values."""
    rate, size = math.log10(values["rate"]) + 3, math.log2(values["size"]) - 4
    return rate**2 + size**2 / 9 + 0.5 * (values["kind"] != "b") + (values["decay"] - 0.3) ** 2


def steep(values: Values) -> float:
    """Grows by a factor of e for each unit of :func:`smooth` squared, up to 10²⁰."""
    return math.expm1(smooth(values) ** 2)


#: Function whose minimum is looked for, and standard deviation of the noise.
FUNCTIONS: dict[str, tuple[Callable[[Values], float], float]] = {
    "smooth": (smooth, 0.0),
    "steep": (steep, 0.0),
    "noisy": (smooth, NOISE),
}
SEARCHES = {
    "random": {"method": "random"},
    **{name: {"surrogate": name} for name in ("random-forest", "extra-trees", "gaussian-process")},
}


def lowest(function: str, search: dict[str, str], n_trials: int, seed: int) -> float:
    """Lowest value of :func:`smooth` among the trials, without noise."""
    options = SearchOptions(space=SPACE, trials=n_trials, seed=seed, **search)
    of_values, noise = FUNCTIONS[function]
    random, results = np.random.default_rng(seed), []
    for number in range(n_trials):
        values = propose(options, number, results, [])
        seen = of_values(values) + noise * random.normal()
        results.append((values, None if values["rate"] > 0.05 else [-seen]))
    return min(smooth(values) for values, objectives in results if objectives is not None)


def main() -> None:
    """Print quartiles over seeds for each function and search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--functions", nargs="+", default=list(FUNCTIONS), choices=FUNCTIONS)
    parser.add_argument("--output", type=Path, default=Path("search_functions.json"))
    arguments = parser.parse_args()
    record = Record("Searches of test functions", {"trials": arguments.trials, "seeds": arguments.seeds})
    for function in arguments.functions:
        rows = []
        for name, search in SEARCHES.items():
            best = [lowest(function, search, arguments.trials, seed) for seed in range(arguments.seeds)]
            low, middle, high = np.quantile(best, (0.25, 0.5, 0.75))
            rows.append({"search": name, "median": middle, "lower quartile": low, "upper quartile": high})
        record.add(f"{function}: lowest value of the smooth function", rows)
    record.write(arguments.output)


if __name__ == "__main__":
    main()
