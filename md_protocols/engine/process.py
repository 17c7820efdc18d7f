"""What a run does to its process while it goes on: number of threads, and the system's signal to end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from threadpoolctl import threadpool_limits

from asecalc_ml.threads import torch_threads

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.options import ProtocolOptions


class Terminable(Protocol):
    """What looks at ``terminated`` between two steps, such as an engine."""

    terminated: bool


@contextlib.contextmanager
def threads(options: ProtocolOptions) -> Iterator[None]:
    """Threads of OpenMP, and of torch where it is loaded, as the options say; as found afterwards.

    OpenMP's are those of libraries that are loaded by now, such as that of GFN2-xTB.
    """
    with threadpool_limits(options.threads, user_api="openmp"), _torch_threads(options.threads):
        yield


def _torch_threads(number: int) -> contextlib.AbstractContextManager:
    return torch_threads(number) if "torch" in sys.modules else contextlib.nullcontext()


@contextlib.contextmanager
def ending_on_sigterm(worker: Terminable) -> Iterator[None]:
    """Let the run pause between two steps when the system asks the process to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(signal_number: int, frame: Any) -> None:
        worker.terminated = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
