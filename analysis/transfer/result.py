"""Whether a model runs on a molecule as its reference does: bonds, drift, distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Cell, Panel, Result, Table, Verdict, unknown_part_error
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.analysis.transfer.figure import draw_transfer
from asecalc_ml.analysis.transfer.records import (
    DRIFT_UNIT,
    MoleculeResult,
    TransferDistribution,
    TransferRun,
)
from asecalc_ml.outcome import BY_GRAVITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TransferResult(Result):
    """A verdict for every molecule."""

    analysis: Literal["transfer"] = "transfer"
    model: str
    reference: str
    molecules: list[MoleculeResult] = Field(description="the one that the model was trained on first")

    def __getitem__(self, molecule: str) -> MoleculeResult:
        """What was found of a molecule."""
        known = {result.name: result for result in self.molecules}
        if molecule not in known:
            raise unknown_part_error("the transfer test", "molecule", molecule, known)
        return known[molecule]

    @property
    def distributions(self) -> list[TransferDistribution]:
        """Those of all molecules."""
        return [distribution for molecule in self.molecules for distribution in molecule.distributions]

    def verdicts(self) -> list[Verdict]:
        """One for every molecule."""
        return [self._verdict(molecule) for molecule in self.molecules]

    def _verdict(self, molecule: MoleculeResult) -> Verdict:
        trained = " (trained on it)" if molecule.is_trained else ""
        by_status = {
            status: [check.text for check in molecule.checks if check.status == status]
            for status in reversed(BY_GRAVITY)
        }
        groups = [f"{status}: {'; '.join(texts)}" for status, texts in by_status.items() if texts]
        return Verdict(
            check=f"{molecule.name}: {self.model}{trained} runs as {self.reference} does",
            status=molecule.status,
            text=". ".join([*groups[:1], *map(_capitalized, groups[1:])]),
        )

    def panels(self) -> list[Panel]:
        """A figure for each distribution of each molecule."""
        return [
            Panel(
                key=distribution.key,
                title=f"{molecule.name}: {distribution.pattern} {distribution.quantity}",
                caption=_caption(distribution),
            )
            for molecule in self.molecules
            for distribution in molecule.distributions
        ]

    def tables(self) -> list[Table]:
        """Verdicts, means and widths of the distributions, then every run."""
        return [self._checks(), self._moments(), self._runs()]

    def _checks(self) -> Table:
        rows: list[list[Cell]] = [
            [molecule.name, check.what, check.found, check.unit, check.bound, check.status]
            for molecule in self.molecules
            for check in molecule.checks
        ]
        n = len(self.distributions)
        caption = (
            f"W1: first Wasserstein distance between all runs of {self.model} that kept their bonds and all "
            f"of {self.reference}, how far values must move on average. Its bound is the 95th percentile of "
            "W1 between as many runs drawn from those of the reference. Where model and reference are the "
            f"same, a distribution fails in about one of twenty tests, and of the {n} here about "
            f"{number_text(n / 20)} on average."
        )
        columns = ["molecule", "check", "found", "unit", "bound", "verdict"]
        return Table(key="checks", title="Verdicts", columns=columns, rows=rows, caption=caption)

    def _moments(self) -> Table:
        rows: list[list[Cell]] = [
            [molecule.name, distribution.pattern, distribution.unit, *_moments_of(distribution)]
            for molecule in self.molecules
            for distribution in molecule.distributions
        ]
        columns = ["molecule", "distribution", "unit", "mean, reference", "mean, model"]
        columns += ["std, reference", "std, model"]
        caption = (
            "Mean and standard deviation of the values that W1 compares: whether a distribution lies "
            "elsewhere, or is wider."
        )
        return Table(key="moments", title="Distributions", columns=columns, rows=rows, caption=caption)

    def _runs(self) -> Table:
        patterns = list(dict.fromkeys((one.pattern, one.unit) for one in self.distributions))
        columns = ["molecule", "run", "state", "length (ps)", "bonds", f"drift ({DRIFT_UNIT})"]
        columns += [f"W1 {pattern} ({unit})" for pattern, unit in patterns]
        rows = [
            [one.name, *_run_row(run), *(run.distances.get(pattern) for pattern, _ in patterns)]
            for one in self.molecules
            for run in [*one.reference_runs, *one.model_runs]
        ]
        caption = (
            "W1 of each run by itself, from the runs of the reference with other starts. Runs of the same "
            "number have the same start. Each is a run directory of its own, such as "
            f"{self.molecules[0].model_runs[0].name}."
        )
        return Table(key="runs", title="Runs", columns=columns, rows=rows, caption=caption)

    def data(self) -> list[Table]:
        """All distributions, bin by bin."""
        return [_points(distribution) for distribution in self.distributions]

    def _draw(self, ax: Axes, panel: str) -> None:
        draw_transfer(
            ax, next(distribution for distribution in self.distributions if distribution.key == panel)
        )


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def _run_row(run: TransferRun) -> list[Cell]:
    bonds = "; ".join(run.changes) if run.changes else "kept" if run.state == "complete" else None
    state = f"{run.state}: {run.reason}" if run.reason else run.state
    return [run.name.rpartition("/")[2], state, run.duration_ps, bonds, run.drift_meV_atom_ps]


def _moments_of(distribution: TransferDistribution) -> list[Cell]:
    both = (distribution.reference, distribution.model)
    return [
        getattr(histogram, moment) if histogram else None for moment in ("mean", "std") for histogram in both
    ]


def _caption(distribution: TransferDistribution) -> str:
    text = (
        f"Model (line, {distribution.n_model} runs), reference (dashed, {distribution.n_reference} runs), "
        "and the range of its single runs (grey)."
    )
    return f"{text} {distribution.check.text}: {distribution.check.status}."


def _points(distribution: TransferDistribution) -> Table:
    curves = {"reference": distribution.reference} | (
        {"model": distribution.model} if distribution.model else {}
    )
    rows: list[list[Cell]] = [
        [name, float(center), float(density)]
        for name, histogram in curves.items()
        for center, density in zip(histogram.centers, histogram.density, strict=True)
    ]
    columns = [
        "runs of",
        f"{distribution.quantity} ({distribution.unit})",
        f"density (1/{distribution.unit})",
    ]
    return Table(
        key=distribution.key,
        title=f"{distribution.pattern} {distribution.quantity}",
        columns=columns,
        rows=rows,
    )
