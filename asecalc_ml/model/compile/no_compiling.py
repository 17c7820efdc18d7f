"""A switch for work that computes little, such as the check of a run, and must not compile for minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MAY_COMPILE: ContextVar[bool] = ContextVar("may_compile", default=True)


def may_compile() -> bool:
    """True unless called inside :func:`without_compiling`."""
    return _MAY_COMPILE.get()


@contextmanager
def without_compiling() -> Iterator[None]:
    """Prevent compiling inside the block; packages that were compiled before are used."""
    token = _MAY_COMPILE.set(False)
    try:
        yield
    finally:
        _MAY_COMPILE.reset(token)
