"""What a check measures, and what the suite concludes from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from asecalc_ml.conformance.table import as_text
from asecalc_ml.outcome import Outcome, current_word

if TYPE_CHECKING:
    from asecalc_ml.conformance.subject import CalculatorUnderTest


class NotApplicableError(Exception):
    """A check that this calculator cannot be asked; the message says why."""


@dataclass(frozen=True)
class Measured:
    """One figure of a check.

    Parameters
    ----------
    figure : float
    bound : float or None
        Largest figure that passes; None where a figure is only told.
    unit : str
    note : str
        What was measured, or what the figure hints at.
    decided : bool
        False where the figure is known so badly that a defect could hide within the bound.
    """

    figure: float
    bound: float | None
    unit: str
    note: str = ""
    decided: bool = True

    @property
    def verdict(self) -> Outcome:
        """Failed where the figure is NaN or beyond its bound."""
        if self.bound is not None and not self.figure <= self.bound:
            return "failed"
        return "passed" if self.decided else "undecided"

    @property
    def badness(self) -> float:
        """The figure in units of its bound, so that the worst of several can be told."""
        if self.bound is None:
            return 0.0
        if math.isnan(self.figure):
            return math.inf
        return self.figure / self.bound if self.bound else math.inf * self.figure if self.figure else 0.0


@dataclass(frozen=True)
class Check:
    """A property that a calculator must have, and the function that measures it.

    Parameters
    ----------
    name : str
    meaning : str
        The law, in one line.
    measure : callable
        Takes the subject and gives figures; the worst of them, in units of its bound, is the result.
    """

    name: str
    meaning: str
    measure: Callable[[CalculatorUnderTest], Iterable[Measured]]


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check. ``figure`` is None where nothing was measured; ``note`` then says why.

    Words of earlier versions for ``verdict`` are translated, also those of pickled results.
    """

    name: str
    meaning: str
    verdict: Outcome
    figure: float | None = None
    bound: float | None = None
    unit: str = ""
    note: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", current_word(self.verdict))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True)
class Report:
    """Outcome of all checks.

    Parameters
    ----------
    calculator : dict
        See :func:`asecalc_ml.calculators.factory.describe_calculator`.
    structure : str
        Chemical formula of the structure that was asked about.
    dtype : {"float32", "float64"}
        Precision whose bounds were applied.
    noise_eV : float or None
        Rounding of the energy, as measured.
    results : tuple of CheckResult
    """

    calculator: dict[str, Any]
    structure: str
    dtype: str
    noise_eV: float | None
    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return self._with("failed")

    @property
    def undecided(self) -> list[str]:
        """Names of the checks that could not be decided; their notes say why."""
        return self._with("undecided")

    @property
    def passed(self) -> bool:
        """Whether every check that applies passed."""
        return not self.failed and not self.undecided

    def _with(self, verdict: Outcome) -> list[str]:
        return [result.name for result in self.results if result.verdict == verdict]

    def __getitem__(self, name: str) -> CheckResult:
        return next(result for result in self.results if result.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, which knows neither NaN nor infinity."""
        checks = [
            {key: value if _is_plain(value) else str(value) for key, value in asdict(result).items()}
            for result in self.results
        ]
        head = {key: getattr(self, key) for key in ("calculator", "structure", "dtype", "noise_eV")}
        outcome = {key: getattr(self, key) for key in ("passed", "failed", "undecided")}
        return {**head, **outcome, "checks": checks}

    def __str__(self) -> str:
        return as_text(self)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
