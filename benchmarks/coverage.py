"""How often `compare` calls equal runs different: pairs of runs that differ in nothing but the seed.

python benchmarks/coverage.py [--pairs 40] [--thermostats bussi langevin] [--directory runs/coverage]
                              [--structure "smiles:CC(N)=O"] [--calculator gfn2-xtb] [--duration-ps 6]
                              [--first-seed 0]

Every run is relaxed, equilibrated with Langevin dynamics for 0.5 ps, and continues with its own thermostat.
Runs that are there already are used again. Two runs of one thermostat have the same distributions, so that
one distance in twenty may be beyond the noise. Printed are rates over all pairs of runs, with errors from
leaving out one run after the other, and the counts of disjoint pairs.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from asecalc_ml.analysis.comparing.compare import _distance, _measure, common_patterns
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.runs import RunReader
from asecalc_ml.statistics.time_series import MIN_BLOCKS
from asecalc_ml.structure.loading import load_structure

OUTCOMES = ("failed", "undecided", "passed", "too short")
TIMESTEP_FS = 1.0


def make_runs(options: argparse.Namespace) -> None:
    """Make the runs that are not there yet."""
    atoms = load_structure(options.structure)
    atoms.calc = make_calculator(options.calculator)
    for seed in seeds(options):
        for thermostat in options.thermostats:
            directory = run_directory(options, thermostat, seed)
            if not (directory / "protocol.yaml").is_file():
                protocol(options, thermostat, seed).run(atoms, directory, quiet=True)
            elif not RunReader(directory).finished:
                resume_run(directory, quiet=True, calculator=atoms.calc)
            print(directory, flush=True)


def seeds(options: argparse.Namespace) -> range:
    return range(options.first_seed, options.first_seed + 2 * options.pairs)


def run_directory(options: argparse.Namespace, thermostat: str, seed: int) -> Path:
    return options.directory / f"{thermostat}-{seed:03d}"


def protocol(options: argparse.Namespace, thermostat: str, seed: int) -> NVT:
    return NVT(
        thermostat=thermostat,
        timestep_fs=TIMESTEP_FS,
        steps=round(1000 * options.duration_ps / TIMESTEP_FS),
        write_every=5,
        equilibration_ps=0.5,
        equilibration_timestep_fs=TIMESTEP_FS,
        seed=seed,
        analyses={},
    )


def measured(options: argparse.Namespace, thermostat: str) -> dict[str, RunReader]:
    """The runs of a thermostat by name, as many as have come to their end."""
    directories = [run_directory(options, thermostat, seed) for seed in seeds(options)]
    runs = [RunReader(one) for one in directories if (one / "protocol.yaml").is_file()]
    return {one.directory.name: one for one in runs if one.finished}


def report(options: argparse.Namespace, thermostat: str) -> None:
    """Print how many distances of all pairs of runs are beyond the noise."""
    runs = measured(options, thermostat)
    groups = common_patterns(next(iter(runs.values())))
    results = {name: _measure(name, run, groups) for name, run in runs.items()}
    draws = [next(iter(of_run.values())).exchange.n_draws for of_run in results.values()]
    n_marked = sum(one < MIN_BLOCKS for one in draws)
    print(f"{thermostat}: {len(runs)} runs, {np.median(draws):.1f} values of an energy, {n_marked} marked")
    outcomes = np.zeros((len(runs), len(runs), len(OUTCOMES)))
    for (i, first), (j, second) in itertools.combinations(enumerate(results), 2):
        for n_atoms, patterns in groups.items():
            both = {name: results[name][n_atoms] for name in (first, second)}
            for pattern in patterns:
                distance = _distance(pattern, first, second, both)
                outcome = "too short" if distance.noise is None else distance.agreement
                outcomes[i, j, OUTCOMES.index(outcome)] += 1
    outcomes += outcomes.transpose(1, 0, 2)
    neighbors = outcomes[np.arange(0, len(runs) - 1, 2), np.arange(1, len(runs), 2)]
    for what, counts in (
        ("all pairs", outcomes.sum(axis=(0, 1)) / 2),
        ("pairs apart", neighbors.sum(axis=0)),
    ):
        print(f"  {what}: " + ", ".join(f"{int(n)} {one}" for one, n in zip(OUTCOMES, counts, strict=True)))
    for what, kinds in (("beyond the noise", ("failed", "undecided")), ("differ", ("failed",))):
        print(f"  {what}: {rate(outcomes, kinds)}")


def rate(outcomes: np.ndarray, kinds: tuple[str, ...]) -> str:
    """Percentage of the outcomes among all but "too short", with its jackknife error over runs."""
    chosen = [OUTCOMES.index(one) for one in kinds]
    known = [k for k, one in enumerate(OUTCOMES) if one != "too short"]

    def fraction(kept: np.ndarray) -> float:
        counts = outcomes[np.ix_(kept, kept)].sum(axis=(0, 1))
        return 100 * counts[chosen].sum() / counts[known].sum()

    everything = np.arange(len(outcomes))
    without = np.array([fraction(np.delete(everything, k)) for k in everything])
    error = np.sqrt((len(without) - 1) * without.var())
    return f"{fraction(everything):.1f} % ± {error:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--thermostats", nargs="+", default=["bussi", "langevin"])
    parser.add_argument("--directory", type=Path, default=Path("runs/coverage"))
    parser.add_argument("--structure", default="smiles:CC(N)=O")
    parser.add_argument("--calculator", default="gfn2-xtb")
    parser.add_argument("--duration-ps", type=float, default=6.0)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    make_runs(options)
    for thermostat in options.thermostats:
        report(options, thermostat)


if __name__ == "__main__":
    main()
