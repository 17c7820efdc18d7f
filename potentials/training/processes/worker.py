"""A process of a training that the first one has started: it computes parts of batches and writes no file."""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys

from asecalc_ml.errors import AsecalcError, TrainingPausedError
from asecalc_ml.local_modules import search_also


def main() -> None:
    """Take part in the training that the standard input names, until it ends or pauses."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    from asecalc_ml.potentials.training.run import run

    folders, request, place = pickle.load(sys.stdin.buffer)
    search_also(*folders)
    with contextlib.suppress(TrainingPausedError):
        try:
            run(request, place)
        except AsecalcError as error:
            raise SystemExit(str(error)) from None
