"""Errors of the operating system while writing: which file, and how full its file system is."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
UNITS = ("kB", "MB", "GB", "TB")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Give errors of the operating system the name of the file that is being written.

    An error of ``write`` has none, and one of ``copy`` or ``rename`` that of a temporary file.
    """
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


def file_of(error: OSError) -> str | None:
    """Return the file that an error is about; of two, where a disk is full, the one that was written."""
    names = (error.filename2, error.filename) if error.errno in FULL else (error.filename,)
    return next((str(name) for name in names if isinstance(name, str | os.PathLike)), None)


def reason(error: OSError, place: str | Path | None = None) -> str:
    """Return what went wrong, with the file system and its free space where that is full.

    Parameters
    ----------
    place : path, optional
        Where files were written, for errors without a file.
    """
    text, file = error.strerror or str(error) or type(error).__name__, file_of(error) or place
    return f"{text} ({_file_system(Path(file))})" if file and error.errno in FULL else text


def _file_system(path: Path) -> str:
    """Return the mount point of a file that need not exist, with the space left there."""
    nearest = nearest_existing(path)
    mount = next(folder for folder in (nearest, *nearest.parents) if folder.is_mount())
    usage = shutil.disk_usage(nearest)
    return f"{size_text(usage.free)} of {size_text(usage.total)} are free on the file system at {mount}"


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def size_text(n_bytes: int) -> str:
    """Return a number of bytes with a unit, such as ``1.2 MB``."""
    power = min(max(len(str(n_bytes)) - 1, 3) // 3, len(UNITS))
    return f"{n_bytes / 1000**power:.1f} {UNITS[power - 1]}"
