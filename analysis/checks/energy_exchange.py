"""How often the modes of a run exchanged energy, and what averages over time say of their errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from asecalc_ml.analysis.base import Cell, Record, Result, Verdict
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.statistics.time_series import MAX_BLOCKS, MIN_BLOCKS, TOO_SHORT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOO_SMALL = "too small"
SMALL_ERRORS = "Errors are too small, since vibrations kept their energies for too much of the run"
REMEDY = "Use protocol nvt with thermostat: langevin, a longer run, or several runs with other seeds"


class EnergyExchange(Record):
    """How often the modes of a run exchanged their energy."""

    n_draws: float = Field(
        description="independent values that the energy of a mode took in the run; 1 where it stayed the same"
    )
    time_fs: float = Field(description="length of the run over n_draws")

    @property
    def is_enough(self) -> bool:
        """True if a mode's energy took the five values that an error needs at least."""
        return self.n_draws >= MIN_BLOCKS

    @property
    def most_blocks(self) -> int:
        """Blocks of a block average, each at least twice as long as an energy lasts: from five to twenty."""
        return int(min(max(self.n_draws / 2, MIN_BLOCKS), MAX_BLOCKS))

    def widening(self, n_blocks: int) -> float:
        r"""How much larger the error of a mean is than one from blocks, which are correlated.

        With the variance of a mean over x relaxation times of an exponential autocorrelation function,
        :math:`V(x) = (2/x) (1 - (1 - e^{-x}) / x)`, blocks of b show (V(b) - V(L)) / (B - 1) of V(L). A run
        with N values of an energy has 2 N relaxation times.

        Parameters
        ----------
        n_blocks : int
            B; 0 where there is no error.

        Returns
        -------
        float, at least 1; for a quantity that follows the energies. It is too large for one that does not.
        """
        if n_blocks < 2:
            return 1.0
        whole, block = (_variance(2 * self.n_draws / n) for n in (1, n_blocks))
        return math.sqrt(max((n_blocks - 1) * whole / (block - whole), 1.0))

    @property
    def numbers(self) -> str:
        """The measurement in words."""
        return (
            f"about {self.n_draws:.1f} independent values of the energy of each vibration in the run, "
            f"at least {MIN_BLOCKS} are needed"
        )


def _variance(n_times: float) -> float:
    """Variance of a mean over so many relaxation times, relative to that of single values."""
    return 2 / n_times * (1 + math.expm1(-n_times) / n_times)


class TimeAverages(Result):
    """Averages over the frames of a run, whose errors are too small where vibrations keep their energies."""

    exchange: EnergyExchange | None = Field(
        None, description="exchange of energy between the modes; null where it is not known"
    )

    @property
    def has_small_errors(self) -> bool:
        """True if the errors are known to be too small."""
        return self.exchange is not None and not self.exchange.is_enough

    @property
    def doubt(self) -> str:
        """A sentence to add to captions where errors are too small, with a space before it."""
        return f" {SMALL_ERRORS} ({self.exchange.numbers})." if self.has_small_errors else ""

    def scalars(self) -> dict[str, float | None]:
        """Numbers as of any result, without errors that are too small."""
        return self.trusted(super().scalars())

    def trusted(self, scalars: dict[str, float | None]) -> dict[str, float | None]:
        """Numbers with None in place of errors that are too small."""
        return {
            name: None if self.has_small_errors and _is_error(name) else scalars[name] for name in scalars
        }

    def draw_doubt(self, ax: Axes) -> None:
        """Write into a figure with error bars or bands that they are too small."""
        if self.has_small_errors:
            ax.annotate(
                f"errors {TOO_SMALL}", (1, 1), xycoords="axes fraction", ha="right", va="top", style="italic"
            )

    def error_cell(self, error: float | None, note: str = TOO_SHORT) -> Cell:
        """An error in a table, see :func:`error_cell`."""
        return error_cell(error, note, self.has_small_errors)


def _is_error(name: str) -> bool:
    return name.rpartition(".")[2].startswith("error")


def error_cell(error: float | None, note: str, is_small: bool) -> Cell:
    """An error in a table: a number, or text where it is missing or too small."""
    if error is None:
        return note
    return f"{number_text(error)} ({TOO_SMALL})" if is_small else error


def exchange_verdict(results: list[Result]) -> list[Verdict]:
    """Whether the errors of time averages can be trusted; nothing where the exchange is not known.

    Undecided where they cannot: the run may be right, such as one at constant energy, and its averages too.
    """
    known = [one.exchange for one in results if isinstance(one, TimeAverages) and one.exchange is not None]
    if not known:
        return []
    status, text = "passed", known[0].numbers
    if not known[0].is_enough:
        status = "undecided"
        text += (
            ". The run may be right all the same, but how far its averages are from those of other runs "
            f"is not known: errors are marked as {TOO_SMALL}. {REMEDY}"
        )
    return [Verdict(check="vibrations exchanged enough energy for errors", status=status, text=text)]
