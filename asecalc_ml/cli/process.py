"""What a command may do to its own process, and the library never does."""

import ctypes
import getpass
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asecalc_ml.cli.errors import explain
from asecalc_ml.errors import AsecalcError, ConfigError, PausedError, RunBusyError
from asecalc_ml.jobs import BUSY, FAILED, PAUSED
from asecalc_ml.local_modules import search_also
from asecalc_ml.terminal.console import print_line

#: Libraries below ours whose warnings of their own future say nothing that a user could act upon.
LIBRARIES = (
    "lightning", "lightning_fabric", "lightning_utilities", "schnetpack", "torch", "torch_geometric",
    "torchmdnet", "torchmetrics",
)  # fmt: skip

#: Parameters of glibc's ``mallopt``, from ``malloc.h``, and the value that disables trimming.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1


def set_threads(threads: int | None) -> None:
    """Fix the number of threads; it has to come before torch and its like are imported."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if threads:
            os.environ[variable] = str(threads)


def ensure_home() -> None:
    """Set HOME and LOGNAME where neither the environment nor the system knows them, as in some containers.

    ASE, matplotlib and torch cannot be imported without. The folder is the same for every command of a user.

    Raises
    ------
    ConfigError
        If the temporary folder belongs to somebody else.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # no entry in passwd
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir()) / f"asecalc-ml-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid != os.getuid():
            problem, remedy = f"{home} belongs to another user", "set HOME to a folder of your own"
            raise ConfigError(problem, name=str(home), remedy=remedy) from None
        os.environ["HOME"] = str(home)
        print_line(
            "Warning: HOME is not set, and this user has no entry in passwd. Registered models and caches go "
            f"to {home}, which the system may clear: set HOME to a folder that stays",
            stderr=True,
        )


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for its next allocation, in place of giving it back to the system.

    By default glibc maps each large array anew and unmaps it when it is freed. Every step of dynamics then
    faults the same memory in again, page by page, at up to six times the cost of the arithmetic.
    Here large arrays come from the heap too, and the heap never shrinks.
    (The threshold of what is mapped cannot be raised instead: ``mallopt`` caps it at 32 MiB.)
    The setting holds for the whole process, so commands call this and the library never does.

    Returns
    -------
    bool
        True if the allocator has taken the setting; False if it has none, as outside of Linux.

    Notes
    -----
    mallopt(3): ``M_MMAP_MAX`` 0 maps no array; ``M_TRIM_THRESHOLD`` -1 disables trimming.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return mallopt(_MMAP_MAX, 0) == 1 and mallopt(_TRIM_THRESHOLD, _NEVER) == 1


def prepare_process() -> None:
    """Do what every command does before anything else."""
    ensure_home()
    keep_freed_memory()
    search_also(Path.cwd())


def end_with_the_parent() -> None:
    """Ask this process to end once its standard input closes: who began it is gone, killed or not."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def carry_out_job(
    work: Callable[[dict], tuple], threads: Callable[[dict], int | None] = lambda message: None
) -> None:
    """Do the one job of this process, as :class:`asecalc_ml.jobs.executors.Job` describes it.

    What to do is one line of JSON on the standard input. When that closes, the process that wanted the job is
    gone, killed or not, and this one ends. The outcome is the last line of the standard output.

    Parameters
    ----------
    work : callable
        From the message to state and text, and numbers by name where there are any.
    threads : callable
        From the message to the number of threads.
    """
    message = json.loads(sys.stdin.readline())
    search_also(*message["module_folders"])
    end_with_the_parent()
    set_threads(threads(message))
    show_messages(quiet=True)
    state, text, values = job_outcome(work, message)
    print(json.dumps({"state": state, "text": text, "values": values}), flush=True)


def job_outcome(work: Callable[[dict], tuple], message: dict) -> tuple[str, str, dict[str, Any]]:
    """State, text and numbers of a job; an error of any kind is an outcome too."""
    try:
        state, text, *values = work(message)
        return state, text, values[0] if values else {}
    except PausedError as error:
        return PAUSED, str(error), {}
    except RunBusyError as error:
        return BUSY, str(error), {}
    except AsecalcError as error:
        return FAILED, str(error), {}
    except OSError as error:
        return FAILED, explain(error), {}
    except Exception as error:  # a calculator may raise anything; one job must not end the others
        import traceback

        traceback.print_exc()
        return FAILED, f"{type(error).__name__}: {error}", {}


def show_messages(quiet: bool) -> None:
    """Print what the package logs and warns of among the progress, such as that a model is compiled."""
    logger = logging.getLogger("asecalc_ml")
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    logger.handlers = [_StandardError()]
    warnings.formatwarning = _one_line
    if not sys.warnoptions:  # python -W asks to see them
        libraries = "|".join(LIBRARIES)
        warnings.filterwarnings("ignore", category=FutureWarning, module=rf"({libraries})(\.|$)")


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Without file and line for what a user should read; with them for what concerns programmers."""
    if category is UserWarning:
        return f"Warning: {message}\n"
    return _as_python_does(message, category, filename, lineno, line)


_as_python_does = warnings.formatwarning


class _StandardError(logging.Handler):
    """Writes to what stderr is at the time: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print_line(record.getMessage(), stderr=True)
