"""Files written whole or not at all, and texts that grow by whole lines."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.errors import AsecalcError, ConfigError
from asecalc_ml.files.full_disk import nearest_existing, reason, writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO

FLUSH_BYTES = 8192


def write_whole(path: Path, content: str | bytes | memoryview, sync: bool = False) -> None:
    """Write a file under another name, then rename it: whoever reads it finds the old one or the new one.

    Parameters
    ----------
    sync : bool
        Wait until the disk has it, so that it also survives a power failure.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def obstacle(directory: Path) -> str | None:
    """Return why files cannot be written to a directory, which need not exist yet; None if they can.

    Tried with a file that never has a name, where the system can do that, and leaves nothing behind.
    """
    nearest = nearest_existing(directory)
    if not nearest.is_dir():
        return f"{nearest} is a file"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest}: {os.strerror(errno.EACCES)}"
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:  # a file system without files of one's own, such as /proc, has "no such file"
        why = "no file can be made there" if error.errno == errno.ENOENT else reason(error, nearest)
        return f"{nearest}: {why}"
    return None


def check_output(
    path: Path,
    suffixes: Sequence[str] = (),
    *,
    overwrite: bool = False,
    error: type[AsecalcError] = ConfigError,
) -> None:
    """Refuse, before anything is computed, a file that could not be written.

    Parameters
    ----------
    path : Path
    suffixes : sequence of str
        Ends of its name that are allowed; all if empty.
    overwrite : bool
        Whether it may replace a file.
    error : type
        Of what is raised.

    Raises
    ------
    AsecalcError
        If it is a folder or exists, its name promises another format, or its folder cannot be written to.
    """
    remedy = "give another file"
    if suffixes and not path.name.endswith(tuple(suffixes)):
        remedy = f"give a name that ends in {' or '.join(suffixes)}"
        problem = f"{path} does not end as files of this format do"
        raise error(problem, name=str(path), value=path.suffix, allowed=suffixes, remedy=remedy)
    if path.is_dir():
        raise error(f"{path} is a folder", name=str(path), remedy=remedy)
    if path.exists() and not overwrite:
        remedy = f"{remedy}, or replace it with --overwrite (overwrite=True in Python)"
        raise error(f"{path} exists", name=str(path), remedy=remedy)
    if why := obstacle(path.parent):
        remedy = "choose another folder, or mend permissions"
        raise error(f"cannot write {path} ({why})", name=str(path), remedy=remedy)


def is_unfinished(path: Path) -> bool:
    """Whether a file is what a kill left of :func:`write_whole`."""
    return re.fullmatch(r"\..+\.\d+\.part", path.name) is not None and path.is_file()


class GrowingText:
    """A text file to which whole lines are appended.

    Parameters
    ----------
    path : Path
    first_line : str
        Written where the file is new or empty.
    """

    def __init__(self, path: Path, first_line: str = ""):
        self._file = path.open("ab", buffering=0)
        self._waiting = bytearray()
        if first_line and self._file.tell() == 0:
            self.append(first_line)

    def append(self, line: str) -> None:
        """Add a line; it reaches the file when some have come together."""
        self._waiting += line.encode() + b"\n"
        if len(self._waiting) > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what waits to the operating system."""
        with writing(self._file.name):
            while self._waiting:
                written = self._file.write(self._waiting)
                del self._waiting[:written]

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            self._file.close()


def cut_to_whole_lines(path: Path) -> None:
    """Take away the beginning of a line that a kill or a full disk has left at the end of a text, if any."""
    if path.is_file():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def write_at(file: FileIO, data: bytes, place: int) -> None:
    """Write bytes at a place of an unbuffered file; few of them at once, so that a kill cannot part them."""
    file.seek(place)
    with writing(file.name):
        while data:
            data = data[file.write(data) :]
