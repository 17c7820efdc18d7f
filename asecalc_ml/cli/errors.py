"""What a user can cause ends in one clear paragraph and exit status 2, never in a traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from asecalc_ml.cli.app import COMMAND, Group
from asecalc_ml.errors import AsecalcError, PausedError, lacks_room
from asecalc_ml.files.full_disk import file_of, reason
from asecalc_ml.terminal.console import make_console
from asecalc_ml.terminal.signals import Terminated, terminated_by_sigterm

if TYPE_CHECKING:
    from typer._click.core import Context

USER_ERROR = 2
INTERRUPTED = 130
PAUSED = (
    os.EX_TEMPFAIL if hasattr(os, "EX_TEMPFAIL") else 75
)  # "try again later", as queueing systems know it


class FriendlyGroup(Group):
    """A typer application whose commands fail with a message."""

    def invoke(self, ctx: Context) -> Any:
        """Run the command that was asked for."""
        with friendly(ctx):
            return super().invoke(ctx)


@contextmanager
def friendly(ctx: Context) -> Iterator[None]:
    """Turn an error that a user can cause, Ctrl-C and SIGTERM into a message and an exit status."""
    try:
        with terminated_by_sigterm():
            yield
    except PausedError as error:
        _fail(str(error), PAUSED)
    except AsecalcError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has left, as `head` does: typer knows
            raise
        _fail(explain(error))
    except Terminated as error:
        _fail(f"the system asked {_command(ctx)} to end (SIGTERM). {_kept(error)}", PAUSED)
    except KeyboardInterrupt as error:
        _fail(f"{_command(ctx)} was interrupted. {_kept(error)}", INTERRUPTED)
    except Exception as error:
        if not lacks_room(error):
            raise
        _fail(
            f"out of memory ({str(error).rstrip('.') or type(error).__name__}): take fewer atoms or frames "
            f"at once, a smaller model, or a device with more memory. {_kept(error)}"
        )


def _command(ctx: Context) -> str:
    """Name of the command that runs, such as "asecalc-ml data label"."""
    return ctx.meta.get(COMMAND, ctx.command_path)


def _kept(error: BaseException) -> str:
    """Sentences on how the work continues that an error has ended."""
    notes = getattr(error, "__notes__", ())
    return " ".join(notes) or "No incomplete file is left: give the command again."


def explain(error: OSError) -> str:
    """Return which file cannot be used, why, and the remedy."""
    remedies = {
        errno.EACCES: "check its permissions, or choose another place",
        errno.EPERM: "check its permissions, or choose another place",
        errno.EROFS: "choose a place that can be written to",
        errno.ENOSPC: "free some space, or choose another disk",
        errno.EDQUOT: "free some of your quota, or choose another disk",
        errno.ENOENT: "check the name",
        errno.EEXIST: "a file is where a folder is needed: choose another name",
        errno.ENOTDIR: "a file is where a folder is needed: choose another name",
    }
    remedy = remedies.get(error.errno) if error.errno else None
    file = file_of(error)
    where = f"cannot use {file}: " if file else ""
    return f"{where}{reason(error)}" + (f"; {remedy}." if remedy else ".")


def _fail(message: str, status: int = USER_ERROR) -> None:
    from rich.text import Text

    console = make_console(stderr=True)
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=not console.is_terminal)
    raise typer.Exit(status)
