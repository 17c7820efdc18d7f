"""Files that can be made again, and their removal."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asecalc_ml.doctor.folders import files_below, inductor_cache, measure, temporary_folder
from asecalc_ml.files.in_use import is_in_use
from asecalc_ml.files.user_cache import cache_folder
from asecalc_ml.store.model_file import SHIPPED
from asecalc_ml.store.registry import Registry

#: What was changed within this time, s, may belong to work that goes on.
UNTOUCHED_s = 3600

#: Names of the entries of each cache; nothing else is removed.
FINGERPRINT = re.compile(r"[0-9a-f]{32}")
UNFINISHED = re.compile(r"tmp\w{8}")
UNPACKED = re.compile(r"aotinductor_\w{6}")
OF_INDUCTOR = re.compile(r"[0-9a-z]{2}|[0-9a-z]{50,52}|aotautograd|fxgraph|locks|precompiled_headers|triton")

#: Where Linux lists the processes.
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Removable:
    """Files of one kind that can be made again.

    Parameters
    ----------
    name : str
    place : Path
        Folder that holds them.
    entries : tuple of Path
        What can be removed.
    n_kept : int
        Number of entries that stay, since a process uses them or they are new.
    cost : str
        What their removal costs.
    """

    name: str
    place: Path
    entries: tuple[Path, ...]
    n_kept: int
    cost: str

    @cached_property
    def n_bytes(self) -> int:
        """Bytes on the disk."""
        return sum(measure(path, limit_s=float("inf"))[0] for path in self.entries)


def removable() -> list[Removable]:
    """List what can be made again and is not in use: no registered model and no data set."""
    from asecalc_ml.model.compile.package_cache import MANIFEST

    used = UsedFiles()
    compiled = cache_folder("compiled")
    return [
        _of_entries(
            "compiled models",
            compiled,
            FINGERPRINT,
            "compiled again when a run needs them, about a minute each",
            lambda path: is_in_use(path / MANIFEST),
        ),
        _of_entries("unfinished compilations", compiled, UNFINISHED, "nothing", _is_new),
        _of_entries(
            "unpacked models",
            temporary_folder().path,
            UNPACKED,
            "nothing: processes that were killed have left them",
            lambda path: _is_new(path) or used.are_below(path) or not _is_own(path),
        ),
        _of_entries(
            "stamps of verified models",
            cache_folder("golden"),
            FINGERPRINT,
            "each model is verified once more",
            lambda path: False,
        ),
        _of_inductor(used),
    ]


def remove(groups: Collection[Removable]) -> tuple[int, list[str]]:
    """Remove what was listed, unless a process has begun to use it since.

    Returns
    -------
    tuple of int and list of str
        Number of entries that were removed or partly removed, and what could not be removed and why.
    """
    listed = [path for group in groups for path in group.entries]
    free = {path for group in removable() for path in group.entries}
    removed, problems = [path for path in listed if path in free], list[str]()
    for path in removed:
        _remove(path, problems)
    return len(removed), problems


def _of_entries(
    name: str, place: Path, pattern: re.Pattern, cost: str, is_used: Callable[[Path], bool]
) -> Removable:
    entries = _entries(place, pattern)
    free = tuple(path for path in entries if not is_used(path))
    return Removable(name, place, free, len(entries) - len(free), cost)


def _of_inductor(used: UsedFiles) -> Removable:
    """Torch's cache as a whole: a process that has taken one file of it may look for the next at any time."""
    place = inductor_cache().path
    entries = _entries(place, OF_INDUCTOR)
    is_busy = used.are_below(place) or any(map(_is_new, entries))
    cost = "compiled trainings begin some minutes later, and so do other programs with torch.compile"
    free = () if is_busy else tuple(entries)
    return Removable("torch's compiler", place, free, len(entries) - len(free), cost)


class UsedFiles:
    """Files that running processes have open, mapped, or as their folder."""

    def __init__(self, processes: Path = PROCESSES):
        self._processes = processes

    def are_below(self, folder: Path) -> bool:
        """Return True if a process uses a file below a folder, or if that cannot be known."""
        return not self._files or any(
            file == root or file.startswith(root + os.sep)
            for root in {str(folder), str(folder.resolve())}
            for file in self._files
        )

    @cached_property
    def _files(self) -> set[str]:
        """Names of all files that are seen; those of other users' processes are not, except by root."""
        numbers = (path for path in _listed(self._processes) if path.name.isdigit())
        return {file for process in numbers for file in _files_of(process)}


def _files_of(process: Path) -> Iterator[str]:
    with suppress(OSError):  # it has ended, or belongs to another user
        for line in (process / "maps").read_text(errors="replace").splitlines():
            if (start := line.find("/")) >= 0:
                yield line[start:]
    for link in (process / "cwd", *_listed(process / "fd")):
        with suppress(OSError):
            yield os.readlink(link)


def _entries(place: Path, pattern: re.Pattern) -> list[Path]:
    """Entries of a folder that are called so and hold nothing that must stay."""
    kept = _kept()
    return sorted(
        path for path in _listed(place) if pattern.fullmatch(path.name) and not _touches(path, kept)
    )


def _kept() -> list[Path]:
    """Folders in which nothing is removed, whatever the caches are set to."""
    return [path.resolve() for path in (*Registry().folders, SHIPPED, cache_folder("datasets"))]


def _touches(path: Path, kept: Collection[Path]) -> bool:
    place = path.resolve()
    return any(place.is_relative_to(folder) or folder.is_relative_to(place) for folder in kept)


def _is_new(path: Path) -> bool:
    """Return True if a file, or anything below a folder, was changed within the last hour."""
    latest = time.time() - UNTOUCHED_s
    for file in (path, *files_below(path)):
        with suppress(OSError):
            if file.lstat().st_mtime > latest:
                return True
    return False


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except (OSError, AttributeError):
        return False


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove(path: Path, problems: list[str]) -> None:
    def note(function: Callable, name: str, error: tuple) -> None:
        if not isinstance(error[1], FileNotFoundError):
            problems.append(f"{name}: {error[1].strerror or error[1]}")

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=note)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        problems.append(f"{path}: {error.strerror or error}")
