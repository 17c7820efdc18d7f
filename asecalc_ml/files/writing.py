"""Files written whole or not at all, and files that grow and can be cut back to where they stood."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.errors import ConfigError, RunError
from asecalc_ml.files.full_disk import reason, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

FLUSH_BYTES = 8192
#: First bytes of formats that else only append: they say what of the rest belongs to the file.
HEAD_BYTES = {
    ".traj": 48,  # of ase.io.ulm: magic, tag, version, number of frames, place of their index
    ".h5md": 100,  # HDF5's superblock: where the tables of the newest frames begin
}


@contextlib.contextmanager
def needing_a_home(variable: str) -> Iterator[None]:
    """Turn the error of a user without a home folder into one that names the remedy.

    Parameters
    ----------
    variable : str
        Environment variable that names the folder in question.

    Raises
    ------
    ConfigError
        If HOME is not set and the user has no entry in passwd.
    """
    try:
        yield
    except RuntimeError as error:
        raise ConfigError(
            "no home folder is known: HOME is not set, and this user has no entry in passwd.",
            name="HOME",
            remedy=f"Set {variable} to a folder of your own",
        ) from error


def write_whole(path: Path, content: str | bytes, sync: bool = False) -> None:
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
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not nearest.is_dir():
        return f"{nearest} is a file"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest}: {os.strerror(errno.EACCES)}"
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        return f"{nearest}: {reason(error, nearest)}"
    return None


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


def mark(path: Path) -> dict:
    """Put a growing file, flushed before, on the disk itself; where it stands now, for :func:`cut_back`."""
    with path.open("rb") as file:
        with writing(path):
            os.fsync(file.fileno())
        found = {"bytes": file.seek(0, os.SEEK_END)}
        if path.suffix in HEAD_BYTES:
            file.seek(0)
            found["head"] = file.read(HEAD_BYTES[path.suffix]).hex()
        return found


def cut_back(path: Path, mark: dict) -> None:
    """Cut a growing file back to where it stood when :func:`mark` looked.

    Formats of frames count them in their first bytes (:data:`HEAD_BYTES`) and else only append: with that
    head put back, the frames after it are forgotten. Killed half-way, this can be done again.

    Raises
    ------
    RunError
        If the file is missing or shorter than it was.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size < mark["bytes"]:
        raise RunError(
            f"{path} has {size} bytes, and had {mark['bytes']} at the last checkpoint: it was damaged or "
            "replaced, and this run cannot be resumed.",
            name=str(path),
            value=size,
            allowed=f"{mark['bytes']} bytes or more",
            remedy="Start it anew with --overwrite.",
        )
    with path.open("r+b") as file:
        if "head" in mark:
            file.write(bytes.fromhex(mark["head"]))
        file.truncate(mark["bytes"])
        os.fsync(file.fileno())
