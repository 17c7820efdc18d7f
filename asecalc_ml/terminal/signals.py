"""The system's request to end a process: SIGTERM, which queueing systems send before they kill."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Terminable(Protocol):
    """What looks at ``terminated`` between two steps, such as an engine or a training."""

    terminated: bool


class Terminated(KeyboardInterrupt):
    """The system's request to end, where no loop looks for it: it ends a command as Ctrl-C does."""


@contextlib.contextmanager
def on_sigterm(action: Callable[[], None]) -> Iterator[None]:
    """Call ``action`` when the system asks this process to end, in place of what was called before.

    Outside of the main thread nothing changes, since only the main thread can set handlers of signals.
    A process that is forked inside the block ends at the signal, as it does by default.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def answer(signal_number: int, frame: Any) -> None:
        if os.getpid() != owner:
            signal.signal(signal_number, signal.SIG_DFL)
            os.kill(os.getpid(), signal_number)
            return
        action()

    before = signal.signal(signal.SIGTERM, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def ending_on_sigterm(worker: Terminable) -> Iterator[None]:
    """Let a worker end between two steps when the system asks the process to end."""

    def ask() -> None:
        worker.terminated = True

    with on_sigterm(ask):
        yield


@contextlib.contextmanager
def terminated_by_sigterm() -> Iterator[None]:
    """Raise :class:`Terminated` when the system asks the process to end."""

    def end() -> None:
        raise Terminated

    with on_sigterm(end):
        yield
