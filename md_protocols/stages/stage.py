"""What an engine asks of every stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Integral
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine
    from asecalc_ml.runs import Segment


class Stage(ABC):
    """A piece of a run: it carries the engine's state from a beginning, or from where it stood, to its end.

    Attributes
    ----------
    name : str
        As the user sees it.
    n_steps : int
        For the progress that is shown.
    produced_steps : int
        Steps by which it takes the time of the trajectory forward.
    writes : tuple of str or None
        Names of the files of the run directory that it makes; None if it does not tell.
    """

    name: ClassVar[str]
    n_steps: int
    produced_steps: int = 0
    writes: ClassVar[tuple[str, ...] | None] = None

    def mistake(self) -> str | None:
        """Return what its class lacks, in words; None if it has what the engine asks of it."""
        if not isinstance(getattr(self, "name", None), str):
            return "without a `name`, which is a text"
        if not isinstance(getattr(self, "n_steps", None), Integral):
            return "without a number of steps, `n_steps`"
        if isinstance(self.writes, str):
            return f"whose `writes` is a text: ({self.writes!r},) is a tuple with one name"
        return None

    def summary(self) -> str:
        """Describe the stage in a few words; empty if its name says everything."""
        return ""

    def segment(self, start_step: int) -> Segment | None:
        """Return what the run states about this stage as a segment of the production; None if it is none.

        Parameters
        ----------
        start_step : int
            Steps of the productions before it.
        """
        return None

    @abstractmethod
    def run(self, engine: Engine) -> None:
        """Go on from the state's step to the end."""
