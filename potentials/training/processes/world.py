"""Processes that train one model together, and the sums that they form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.training.frames.batches import Parts


class LostProcessError(TrainingError):
    """Another process of the training has ended, or cannot be reached."""


@dataclass(frozen=True)
class World:
    """The processes of a training, seen from one of them.

    All processes have the same weights: they begin with the same ones, and take the same steps, since the
    sum of their gradients is the same in all of them, bit for bit.

    Parameters
    ----------
    n : int
        Number of processes.
    rank : int
        Number of this one. The first, 0, writes all files.
    local_rank : int
        Number of this one among those of its machine.
    """

    n: int = 1
    rank: int = 0
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """True in the process that writes the files."""
        return self.rank == 0

    def parts(self, n_accumulated: int) -> Parts:
        """Parts of a batch that this process computes, if each computes so many one after the other."""
        first = self.rank * n_accumulated
        return Parts(self.n * n_accumulated, range(first, first + n_accumulated))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, in place.

        Raises
        ------
        LostProcessError
            If another process has ended.
        """
        if self.n > 1:
            _together(lambda: torch.distributed.all_reduce(values))
        return values

    def any(self, value: bool, device: torch.device) -> bool:
        """Return True in all processes if the value is true in one of them; raises as :meth:`sum` does."""
        return value if self.n == 1 else bool(self.sum(torch.tensor([float(value)], device=device)))

    def wait(self) -> None:
        """Return once all processes have called this; raises as :meth:`sum` does."""
        if self.n > 1:
            _together(torch.distributed.barrier)


ALONE = World()


def _together(operation: Callable[[], object]) -> None:
    try:
        operation()
    except RuntimeError as error:
        raise LostProcessError(
            f"another process of the training has ended, or cannot be reached ({str(error).splitlines()[0]})",
            name="process",
            remedy="continue with --resume",
        ) from error
