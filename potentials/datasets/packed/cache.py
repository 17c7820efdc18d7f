"""Packed sets in the user's cache, found again by the contents of the files that they were read from."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from asecalc_ml.errors import AsecalcError
from asecalc_ml.files.full_disk import reason
from asecalc_ml.files.reading import DAMAGE, open_npz
from asecalc_ml.files.user_cache import ANOTHER_CACHE, cache_folder, fingerprint
from asecalc_ml.files.writing import is_unfinished, write_whole
from asecalc_ml.potentials.datasets.packed.checks import check_arrays
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames, from_arrays, to_arrays
from asecalc_ml.terminal.console import print_line

#: Raised whenever a reader gives other numbers for the same file, or the arrays change.
VERSION = 1

#: Bytes of all copies together above which those that were used longest ago are removed; QM9 takes 0.2 GB.
LARGEST = 2 * 10**9

#: Age, s, at which what a killed process has left of a file is removed.
ABANDONED_s = 86_400


def kept(kind: str, sources: Sequence[Path], build: Callable[[], PackedFrames], place: str) -> PackedFrames:
    """A packed set from the user's cache; it is read from its sources, and kept, if it is not there.

    Structures that were left out are counted on the standard error, and listed in a file of the cache.
    When a new copy is written, the copies that were used longest ago make room (:data:`LARGEST`).

    Parameters
    ----------
    kind : str
        Beginning of the file's name, such as that of the reader.
    sources : sequence of Path
        Files that decide what the set contains. Their contents are compared, not their places or times.
    build : callable
        Reads the sources.
    place : str
        What messages call the data.

    Raises
    ------
    DatasetError
        As for :func:`asecalc_ml.potentials.datasets.packed.checks.check_arrays`.

    Warns
    -----
    UserWarning
        If the copy cannot be written; the set is then read anew each time.
    """
    key = fingerprint([VERSION, [_content(source) for source in sources]])
    path = cache_folder("datasets") / f"{kind}-{key}.npz"
    frames = _load(path)
    if frames is None:
        frames = build()
        check_arrays(frames, place)
        _keep(frames, path)
    else:
        with suppress(OSError):  # a folder of others, or a copy that has just been removed
            os.utime(path)  # the time of its last use
    if frames.left_out:
        _print_once(f"{place}: {left_out_text(frames)} (listed in {_list_of(path)})")
    return frames


@cache
def _print_once(line: str) -> None:
    """Print a line on the standard error, once in a process: a command may read a set several times."""
    print_line(line, stderr=True)


def left_out_text(frames: PackedFrames) -> str:
    """Numbers of the structures that are read and of those that are left out, with the reasons."""
    reasons = Counter(why.partition(":")[0] for why in frames.left_out.values())
    counts = ", ".join(f"{count} {why}" for why, count in reasons.most_common())
    return f"{len(frames)} structures are read, {len(frames.left_out)} are left out: {counts}"


def _keep(frames: PackedFrames, path: Path) -> None:
    """Write the set, and a table of what was left out, into the cache."""
    content, table = io.BytesIO(), io.StringIO()
    np.savez(content, **to_arrays(frames))  # type: ignore[arg-type]  # no name of an array is that of an option
    csv.writer(table).writerows([("structure", "reason"), *frames.left_out.items()])
    try:
        write_whole(_list_of(path), table.getvalue())
        write_whole(path, content.getbuffer())
        _make_room(path)
    except OSError as error:
        warnings.warn(
            f"cannot keep what was read in {path.parent} ({reason(error, path)}), so it is read anew each "
            f"time: free space, or {ANOTHER_CACHE}",
            stacklevel=2,
        )


def _make_room(kept: Path) -> None:
    """Remove the copies that were used longest ago, but this one, until all together are small enough.

    Several processes may do so at once: each file is there or not, and one that is being read stays readable.
    """
    now, total = time.time(), 0
    for unfinished in filter(is_unfinished, kept.parent.glob(".*.part")):
        with suppress(FileNotFoundError):
            if now - unfinished.stat().st_mtime > ABANDONED_s:
                unfinished.unlink()
    copies = {}
    for path in kept.parent.glob("*.npz"):
        with suppress(FileNotFoundError):  # another process has just removed it
            copies[path] = path.stat()
    for path in sorted(copies, key=lambda path: (path == kept, copies[path].st_mtime), reverse=True):
        total += copies[path].st_size
        if total > LARGEST and path != kept:
            path.unlink(missing_ok=True)
            _list_of(path).unlink(missing_ok=True)


def _list_of(path: Path) -> Path:
    """Where the structures are listed that were left out of a set."""
    return path.with_suffix(".left_out.csv")


def _load(path: Path) -> PackedFrames | None:
    """The stored set; None where there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        with open_npz(path) as file:
            return from_arrays({name: file[name] for name in file.files})
    except (AsecalcError, *DAMAGE):
        return None


def _content(path: Path) -> list[str]:
    """Name and hash of a file."""
    with path.open("rb") as file:
        return [path.name, hashlib.file_digest(file, "sha256").hexdigest()]
