"""Files of the cache that a running process uses: marked by a shared lock, which ends with the process."""

from __future__ import annotations

from contextlib import suppress
from io import FileIO
from pathlib import Path

#: Files that this process has marked, kept open.
_MARKED: dict[Path, FileIO] = {}


def mark_in_use(file: Path) -> None:
    """Mark a file as used until this process ends; nothing is marked where there are no locks."""
    with suppress(ImportError, OSError):
        import fcntl

        opened = file.open("rb", buffering=0)
        _MARKED[file] = opened  # closes the one before
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_in_use(file: Path) -> bool:
    """Return True if a process, here or on another machine, has marked a file, or if that is unknown."""
    try:
        import fcntl

        with file.open("r+b", buffering=0) as opened:  # NFS needs it for an exclusive lock
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (ImportError, OSError):  # Windows; somebody holds it; a file system without locks
        return True
    return False
