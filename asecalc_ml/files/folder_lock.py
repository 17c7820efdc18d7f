"""One writer of a folder at a time."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from io import FileIO
from pathlib import Path

from asecalc_ml.errors import RunBusyError
from asecalc_ml.files.full_disk import writing


class FolderLock:
    """A lock on a file in a folder, for this process too.

    The system lets go when the process ends, however it ends, so that no lock is ever stale. On a network's
    file system the server does, when the machine that held it is gone. Where there are no locks (Windows,
    some network file systems), nothing is refused.

    Parameters
    ----------
    path : Path
        The file; it is created, says who holds the lock, and stays.
    purpose : str
        What the other process is doing, for the message.

    Raises
    ------
    RunBusyError
        If somebody else holds it.
    """

    def __init__(self, path: Path, purpose: str):
        self.holds = True  # False where there are no locks
        self._file = path.open("ab+", buffering=0)
        try:
            self._take(path, purpose)
        except BaseException:
            self._file.close()
            raise

    def _take(self, path: Path, purpose: str) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            self.holds = False
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RunBusyError(
                f"{path.parent}: another process is {purpose}{_holder(self._file)};",
                name=str(path.parent),
                value=purpose,
                remedy="wait for it or stop it",
            ) from None
        except OSError:  # a file system without locks
            self.holds = False
            return
        with writing(path):
            self._file.truncate(0)
            self._file.write(f"{os.getpid()} on {platform.node()}".encode())

    def close(self) -> None:
        """Release the lock."""
        self._file.close()


def _holder(file: FileIO) -> str:
    with suppress(OSError):
        file.seek(0)
        text = file.read(200).decode(errors="replace")
        return f" ({text})" if text else ""
    return ""
