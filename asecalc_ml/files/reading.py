"""Reads text, JSON and npz files; a damaged one becomes an error that names file, place and remedy."""

from __future__ import annotations

import errno
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from asecalc_ml.errors import AsecalcError, RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.lib.npyio import NpzFile

COPY_AGAIN = "copy it again from where it was whole"

#: What libraries raise for a damaged file, and code for contents of another kind than it expects.
DAMAGE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, EOFError,
    SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Stored(dict):
    """Keys and values of a file; asking for a key that is not there raises an error that names the file.

    Parameters
    ----------
    content : mapping
    path : Path
    """

    def __init__(self, content: Any, path: Path):
        super().__init__(content)
        self._path = path

    def __missing__(self, key: str) -> Any:
        problem = f"{self._path} is damaged: it has no {key!r};"
        raise RunError(problem, name=str(self._path), value=key, remedy=COPY_AGAIN)


@contextmanager
def damage_named(
    path: Path, error: type[AsecalcError] = RunError, remedy: str = COPY_AGAIN, place: str = ""
) -> Iterator[None]:
    """Turn what a damaged file causes into an error that names it.

    Errors of the operating system, such as missing permissions, are not taken for damage.

    Parameters
    ----------
    path : Path
    error : subclass of AsecalcError
    remedy : str
        What the user can do, without a full stop.
    place : str
        Where the damage is, such as "in frame 3".
    """
    try:
        yield
    except AsecalcError:
        raise
    except DAMAGE as damage:
        # EINVAL: a place that no file has
        if isinstance(damage, OSError) and damage.errno not in (None, errno.EINVAL):
            raise
        where = f" {place}" if place else ""
        cause = described(damage)
        problem = f"{path} is damaged{where} ({cause})"
        raise error(problem, name=str(path), value=cause, remedy=remedy) from damage


def described(error: BaseException) -> str:
    """Describe an exception in one line; for pydantic's errors the first one with its place."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return f"line {line} holds bytes that are not UTF-8 text"
    text = " ".join(str(error).split())
    return f"no {text}" if type(error) is KeyError else text or type(error).__name__


def read_text(path: Path, error: type[AsecalcError] = RunError, remedy: str = COPY_AGAIN) -> str:
    """Text in UTF-8.

    Raises
    ------
    error
        If it is missing or holds other bytes; the message names the line.
    """
    if not path.is_file():
        raise error(f"{path} is missing (looked in {Path.cwd()})", name=str(path), remedy=remedy)
    with damage_named(path, error, remedy):
        return path.read_bytes().decode("utf-8")


def read_json(
    path: Path,
    contents: type[BaseModel] | None = None,
    error: type[AsecalcError] = RunError,
    remedy: str = COPY_AGAIN,
) -> Any:
    """Return the contents of a JSON file, its objects as :class:`Stored`.

    Parameters
    ----------
    path : Path
    contents : pydantic model, optional
        What has to be in it; the values are returned as they are.
    error : subclass of AsecalcError
    remedy : str

    Raises
    ------
    error
        If it is no JSON in UTF-8, or does not have these contents.
    """
    text = read_text(path, error, remedy)
    with damage_named(path, error, remedy):
        return parse_json(text, path, contents)


def read_json_lines(path: Path, lines: list[str], contents: type[BaseModel] | None = None) -> list[Any]:
    """Objects of lines of a file, as :func:`read_json` has them.

    Raises
    ------
    RunError
        The message names the line.
    """
    objects = []
    for number, line in enumerate(lines, 1):
        with damage_named(path, place=f"in line {number}"):
            objects.append(parse_json(line, path, contents))
    return objects


def parse_json(text: str, path: Path, contents: type[BaseModel] | None = None) -> Any:
    """JSON of a file, checked; ValueError or RecursionError where it is none."""
    if contents is not None:
        contents.model_validate_json(text, strict=True)
    return json.loads(text, object_hook=lambda pairs: Stored(pairs, path))


@contextmanager
def open_npz(path: Path, error: type[AsecalcError] = RunError, remedy: str = COPY_AGAIN) -> Iterator[NpzFile]:
    """An npz file whose arrays are read when they are asked for, without ever unpickling anything.

    Raises
    ------
    error
        If it is no such file, or an array was altered: each has a checksum.
    """
    import numpy as np

    with damage_named(path, error, remedy):
        if not zipfile.is_zipfile(path):
            raise ValueError("not a whole npz file")
        try:
            with np.load(path, allow_pickle=False) as file:
                yield file
        except MemoryError as damage:  # of a damaged number of elements
            raise ValueError(str(damage)) from damage


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file, see :func:`open_npz`."""
    with open_npz(path) as file:
        return {name: file[name] for name in file.files}


def check_archive(path: Path) -> None:
    """Compare the checksums of a zip archive, such as torch's files, which torch itself does not.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If a member was altered, or it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {damaged} differs")
